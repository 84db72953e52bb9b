"""transformers' side of the language-model benchmark, on two threads.

Reads one JSON request a line: {"model": FOLDER, "case": "generate", "batch", "prompt", "newTokens"} or
{"model": FOLDER, "case": "score", "lengths": [...]} or {"case": "copy", "elements": n}, and answers
{"seconds": SECONDS}. Generation is greedy and goes on past the end token. Scoring takes the log-probabilities of every token from one forward pass a
batch, sequences sorted by length and padded to the longest of their batch.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
BATCH = 32


def ids_of(count, length):
    return torch.tensor(
        [[(7 * s + i * i + 3) % 2000 + 3 for i in range(length)] for s in range(count)]
    )


def generate(model, request):
    ids = ids_of(request["batch"], request["prompt"])
    mask = torch.ones_like(ids)
    n = request["newTokens"]
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        min_new_tokens=n,
        max_new_tokens=n,
        pad_token_id=0,
    )
    assert out.shape[1] == ids.shape[1] + n


def score(model, request):
    lengths = sorted(request["lengths"], reverse=True)
    for start in range(0, len(lengths), BATCH):
        part = lengths[start : start + BATCH]
        ids = ids_of(len(part), part[0])
        mask = torch.tensor([[int(i < n) for i in range(part[0])] for n in part])
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logp = torch.log_softmax(logits[:, :-1], -1)
        logp.gather(-1, ids[:, 1:, None])


def copy_seconds(elements):
    """The best of five copies of one float32 array onto another."""
    a, b = torch.ones(elements), torch.zeros(elements)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        b.copy_(a)
        times.append(time.perf_counter() - start)
    return min(times)


CASES = {"generate": generate, "score": score}


def main():
    models = {}
    name = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(json.dumps({"peer": name}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["case"] == "copy":
            print(json.dumps({"seconds": copy_seconds(request["elements"])}), flush=True)
            continue
        path = request["model"]
        if path not in models:
            models[path] = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        with torch.inference_mode():
            start = time.perf_counter()
            CASES[request["case"]](models[path], request)
            seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds}), flush=True)


main()
