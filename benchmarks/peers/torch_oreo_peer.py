"""OREO in PyTorch, with the passes and the padding of the paper's code.

One JSON request a line: a model's size, two safetensors files (policy and value model), trajectories,
batches as indices, learning rates. A step is, for each micro-batch padded on the left to its longest
sequence: reference forward, policy forward without gradient, value model forward and backward, policy
forward and backward; then clipping and AdamW for both. Answers the seconds of every step and its losses.
The formulas are the paper's, written for this benchmark; attention, norms and AdamW are torch's own
fused ones.
"""

import json
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

EPS = 1e-6
THETA = 10000.0


def read_tensors(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            array = np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])
            tensors[name] = torch.tensor(array)
    return tensors


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def hidden_states(params, config, ids, mask):
    heads, kv = config["heads"], config["kvHeads"]
    b, t = ids.shape
    size = config["hidden"] // heads
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inverse = 1.0 / (THETA ** (torch.arange(0, size, 2) / size))
    angles = positions[:, None, :, None] * inverse
    angles = torch.cat([angles, angles], -1)
    cos, sin = angles.cos(), angles.sin()
    visible = torch.tril(torch.ones(t, t, dtype=torch.bool))[None, None] & mask[:, None, None].bool()
    visible = visible | torch.eye(t, dtype=torch.bool)
    x = F.embedding(ids, params["model.embed_tokens.weight"])
    split = lambda y, n: y.view(b, t, n, size).transpose(1, 2)
    for i in range(config["layers"]):
        name = f"model.layers.{i}."
        p = lambda key: params[name + key]
        y = F.rms_norm(x, (x.shape[-1],), p("input_layernorm.weight"), EPS)
        project = lambda part: F.linear(
            y, p(f"self_attn.{part}_proj.weight"), p(f"self_attn.{part}_proj.bias")
        )
        q = rotate(split(project("q"), heads), cos, sin)
        k = rotate(split(project("k"), kv), cos, sin)
        out = F.scaled_dot_product_attention(
            q, k, split(project("v"), kv), attn_mask=visible, enable_gqa=True
        )
        x = x + F.linear(out.transpose(1, 2).reshape(b, t, -1), p("self_attn.o_proj.weight"))
        y = F.rms_norm(x, (x.shape[-1],), p("post_attention_layernorm.weight"), EPS)
        gated = F.silu(F.linear(y, p("mlp.gate_proj.weight"))) * F.linear(y, p("mlp.up_proj.weight"))
        x = x + F.linear(gated, p("mlp.down_proj.weight"))
    return F.rms_norm(x, (x.shape[-1],), params["model.norm.weight"], EPS)


def next_token(params, config, ids, mask):
    """log-probabilities over the vocabulary for every next token, and of the tokens themselves."""
    states = hidden_states(params, config, ids, mask)[:, :-1]
    log_probs = F.log_softmax(F.linear(states, params["model.embed_tokens.weight"]), -1)
    return log_probs, log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1)


def mean_of_means(x, mask):
    return ((x * mask).sum(1) / mask.sum(1)).mean()


def collate(items, pad):
    longest = max(len(i["prompt"]) + len(i["response"]) for i in items)
    ids = torch.full((len(items), longest), pad)
    mask = torch.zeros((len(items), longest), dtype=torch.long)
    actions = torch.zeros((len(items), longest - 1))
    for row, item in enumerate(items):
        tokens = item["prompt"] + item["response"]
        ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        mask[row, longest - len(tokens) :] = 1
        actions[row, longest - 1 - len(item["response"]) :] = 1
    return ids, mask, actions, torch.tensor([float(i["reward"]) for i in items])


def train(request):
    config, micro, beta, alpha = (request[k] for k in ("config", "micro", "beta", "alpha"))
    reference = read_tensors(request["policy"])
    policy = {name: torch.nn.Parameter(x.clone()) for name, x in reference.items()}
    value = {name: torch.nn.Parameter(x) for name, x in read_tensors(request["value"]).items()}
    optimizers = [
        torch.optim.AdamW(model.values(), lr=0, betas=(0.9, 0.95), weight_decay=0, fused=True)
        for model in (policy, value)
    ]
    seconds, cpu, losses = [], [], []
    for indices, rate in zip(request["batches"], request["rates"]):
        start, start_cpu = time.perf_counter(), time.process_time()
        items = [request["items"][i] for i in indices]
        totals = np.zeros(3)
        for first in range(0, len(items), micro):
            part = items[first : first + micro]
            share = len(part) / len(items)
            ids, mask, actions, rewards = collate(part, request["pad"])
            with torch.no_grad():
                ref_all, ref = next_token(reference, config, ids, mask)
                old = next_token(policy, config, ids, mask)[1]
                ratios = (old - ref) * actions
                sums = ratios.flip(1).cumsum(1).flip(1)
            states = hidden_states(value, config, ids, mask)
            values = F.linear(states, value["value_head.weight"]).squeeze(-1)[:, :-1]
            residual = values - rewards[:, None] + beta * sums
            value_loss = mean_of_means(residual.square(), actions)
            (value_loss * share).backward()
            all_, chosen = next_token(policy, config, ids, mask)
            ratios = (chosen - ref) * actions
            sums = ratios.flip(1).cumsum(1).flip(1)
            later = (sums - ratios).detach()
            residual = values.detach() - rewards[:, None] + beta * (ratios + later)
            policy_loss = mean_of_means(residual.square(), actions)
            kl = mean_of_means((all_.exp() * (all_ - ref_all)).sum(-1), actions)
            ((policy_loss + alpha * kl) * share).backward()
            totals += share * np.array([value_loss.item(), policy_loss.item(), kl.item()])
        for model, optimizer in zip((policy, value), optimizers):
            torch.nn.utils.clip_grad_norm_(model.values(), 1.0)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        losses.append(totals.tolist())
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"seconds": seconds, "cpu": cpu, "losses": losses}


print(json.dumps({"peer": f"PyTorch {torch.__version__}"}), flush=True)
for line in sys.stdin:
    print(json.dumps(train(json.loads(line))), flush=True)
