"""OREO in JAX, as fast as we can write it: the project's own packed rows and its single policy pass.

One JSON request a line: a model's size, two safetensors files, and for every step the micro-batches that
the project's trainer would make, array by array. One compiled program a micro-batch adds to donated
gradients, one applies them; a step of one micro-batch is one program. Answers the seconds of every step
and its losses.
"""

import json
import struct
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

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
            tensors[name] = jnp.array(array)
    return tensors


def rms(x, w):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * w


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + jnp.concatenate([-x[..., half:], x[..., :half]], -1) * sin


def hidden_states(params, config, batch):
    heads, kv = config["heads"], config["kvHeads"]
    ids, segments = batch["ids"], batch["segments"]
    b, t = ids.shape
    size = config["hidden"] // heads
    inverse = 1.0 / (THETA ** (jnp.arange(0, size, 2) / size))
    angles = batch["positions"][:, None, :, None] * inverse
    angles = jnp.concatenate([angles, angles], -1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    visible = jnp.tril(jnp.ones((t, t), bool)) & (segments[:, :, None] == segments[:, None])
    mask = jnp.where(visible, 0.0, -1e9)[:, None, None]
    # No query needs keys after its block.
    block = t if t < 192 else -(-t // 32) * 8
    x = params["model.embed_tokens.weight"][ids]
    split = lambda y, n: y.reshape(b, t, n, size).transpose(0, 2, 1, 3)
    for i in range(config["layers"]):
        name = f"model.layers.{i}."
        p = lambda key: params[name + key]
        y = rms(x, p("input_layernorm.weight"))
        project = lambda part: (
            y @ p(f"self_attn.{part}_proj.weight").T + p(f"self_attn.{part}_proj.bias")
        )
        q = rotate(split(project("q"), heads), cos, sin) * size**-0.5
        k, v = rotate(split(project("k"), kv), cos, sin), split(project("v"), kv)
        q = q.reshape(b, kv, heads // kv, t, size)
        blocks = []
        for start in range(0, t, block):
            end = min(t, start + block)
            scores = jnp.einsum("bkgqd,bksd->bkgqs", q[:, :, :, start:end], k[:, :, :end])
            weights = jax.nn.softmax(scores + mask[..., start:end, :end], -1)
            blocks.append(jnp.einsum("bkgqs,bksd->bkgqd", weights, v[:, :, :end]))
        out = jnp.concatenate(blocks, 3).reshape(b, heads, t, size)
        x = x + out.transpose(0, 2, 1, 3).reshape(b, t, -1) @ p("self_attn.o_proj.weight").T
        y = rms(x, p("post_attention_layernorm.weight"))
        gated = jax.nn.silu(y @ p("mlp.gate_proj.weight").T) * (y @ p("mlp.up_proj.weight").T)
        x = x + gated @ p("mlp.down_proj.weight").T
    return rms(x, params["model.norm.weight"]).reshape(b * t, -1)


def gradients(config, beta, alpha, state, reference, batch):
    at, columns = batch["at"], batch["columns"]
    actions, weights = batch["actionWeights"] > 0, batch["actionWeights"]

    def distributions(params):
        rows = hidden_states(params, config, batch)[at]
        return jax.nn.log_softmax(rows @ params["model.embed_tokens.weight"].T, -1)

    def chosen(log_probs):
        return jnp.take_along_axis(log_probs, batch["targets"][:, None], -1)[:, 0]

    ref_all = distributions(reference)

    def loss(models):
        policy, value = models
        all_ = distributions(policy)
        ratios = ((chosen(all_) - chosen(ref_all))[columns]) * actions
        sums = jnp.flip(jnp.cumsum(jnp.flip(ratios, 1), 1), 1)
        rows = hidden_states(value, config, batch)[at]
        values = (rows @ value["value_head.weight"][0])[columns]
        stop = jax.lax.stop_gradient
        rewards = batch["rewards"][:, None]
        value_loss = jnp.sum(weights * (values - rewards + beta * stop(sums)) ** 2)
        carried = ratios + stop(sums - ratios)
        policy_loss = jnp.sum(weights * (stop(values) - rewards + beta * carried) ** 2)
        kl = jnp.sum(weights * jnp.sum(jnp.exp(all_) * (all_ - ref_all), -1)[columns])
        return value_loss + policy_loss + alpha * kl, jnp.stack([value_loss, policy_loss, kl])

    return jax.grad(loss, has_aux=True)(state["models"])


def update(state, grads, hyper):
    rate, c1, c2 = hyper
    b1, b2 = 0.9, 0.95
    models, ms, vs = [], [], []
    for params, m, v, g in zip(state["models"], state["m"], state["v"], grads):
        norm = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(g)))
        scale = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
        g = jax.tree.map(lambda x: x * scale, g)
        m = jax.tree.map(lambda m, x: b1 * m + (1 - b1) * x, m, g)
        v = jax.tree.map(lambda v, x: b2 * v + (1 - b2) * x * x, v, g)
        models.append(
            jax.tree.map(
                lambda p, m, v: p - rate * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), params, m, v
            )
        )
        ms.append(m)
        vs.append(v)
    return {"models": models, "m": ms, "v": vs}


compiled = {}


def programs(config, beta, alpha):
    key = json.dumps([config, beta, alpha])
    if key not in compiled:
        grad = partial(gradients, config, beta, alpha)

        def whole(state, reference, batch, hyper):
            grads, sums = grad(state, reference, batch)
            return update(state, grads, hyper), sums

        def further(acc, state, reference, batch):
            return jax.tree.map(jnp.add, acc, grad(state, reference, batch))

        compiled[key] = (
            jax.jit(whole, donate_argnums=0),
            jax.jit(grad),
            jax.jit(further, donate_argnums=0),
            jax.jit(update, donate_argnums=0),
        )
    return compiled[key]


def train(request):
    config = request["config"]
    whole, first, further, apply = programs(config, request["beta"], request["alpha"])
    reference = read_tensors(request["policy"])
    models = [jax.tree.map(jnp.copy, reference), read_tensors(request["value"])]
    zeros = lambda: jax.tree.map(jnp.zeros_like, models)
    state = {"models": models, "m": zeros(), "v": zeros()}
    steps = [[{k: np.array(v["data"], v["type"]).reshape(v["shape"]) for k, v in b.items()}
              for b in batches] for batches in request["steps"]]
    seconds, cpu, losses = [], [], []
    for n, (batches, rate) in enumerate(zip(steps, request["rates"])):
        start, start_cpu = time.perf_counter(), time.process_time()
        hyper = np.array([rate, 1 - 0.9 ** (n + 1), 1 - 0.95 ** (n + 1)], np.float32)
        if len(batches) == 1:
            state, sums = whole(state, reference, batches[0], hyper)
        else:
            read = {"models": state["models"]}
            acc = first(read, reference, batches[0])
            for batch in batches[1:]:
                acc = further(acc, read, reference, batch)
            grads, sums = acc
            state = apply(state, grads, hyper)
        losses.append(np.asarray(sums).tolist())
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"seconds": seconds, "cpu": cpu, "losses": losses}


print(json.dumps({"peer": f"JAX {jax.__version__}"}), flush=True)
for line in sys.stdin:
    print(json.dumps(train(json.loads(line))), flush=True)
