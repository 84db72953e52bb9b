"""llama.cpp's side of the language-model benchmark, through llama-cpp-python's low-level API.

Reads one JSON request a line, {"model": FILE, "prompts": [[id, ...], ...], "newTokens": n}, decodes all
prompts together greedily with two threads and answers {"seconds": SECONDS} for prompts and new tokens.
The first request loads the model; its time counts nothing of that.
"""

import json
import sys
import time

import llama_cpp as llama
import numpy as np

ROOM = 512


@llama.llama_log_callback
def quiet(level, text, data):
    """Says nothing: the library writes pages to the terminal."""


llama.llama_log_set(quiet, None)


class Model:
    def __init__(self, path, sequences):
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(
            path.encode(), llama.llama_model_default_params()
        )
        params = llama.llama_context_default_params()
        params.n_ctx = sequences * ROOM
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = 2
        self.context = llama.llama_init_from_model(self.model, params)
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.batch = llama.llama_batch_init(512, 0, 1)

    def decode(self, entries):
        """Feeds (token, position, sequence, wanted); the likeliest next token where it is wanted."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        if llama.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        chosen = {}
        for i, (_, _, sequence, wanted) in enumerate(entries):
            if wanted:
                row = llama.llama_get_logits_ith(self.context, i)
                chosen[sequence] = int(np.argmax(np.ctypeslib.as_array(row, (self.vocab,))))
        return chosen

    def generate(self, prompts, new_tokens):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        entries = [
            (token, i, sequence, i == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for i, token in enumerate(prompt)
        ]
        chosen = self.decode(entries)
        for step in range(new_tokens - 1):
            chosen = self.decode(
                [(chosen[s], len(p) + step, s, True) for s, p in enumerate(prompts)]
            )


def main():
    print(json.dumps({"peer": f"llama.cpp (llama-cpp-python {llama.__version__})"}), flush=True)
    model = None
    for line in sys.stdin:
        request = json.loads(line)
        if model is None:
            model = Model(request["model"], len(request["prompts"]))
            model.generate(request["prompts"], 8)
        start = time.perf_counter()
        model.generate(request["prompts"], request["newTokens"])
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


main()
