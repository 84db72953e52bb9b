"""The JAX side of the engine benchmarks.

Reads one JSON request a line from standard input, {"case": NAME, ...sizes}, runs the case and
answers {"seconds": MEDIAN} on standard output, so that the harness can take turns between JAX and
this project within one run. Each case is compiled and warmed up at its first request. The formulas
are the project's own (Qwen2: RMSNorm, RoPE, grouped-query attention, SwiGLU); nothing is tuned down.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EPS = 1e-6
THETA = 10000.0


def init(rng, config):
    hidden, ffn, vocab = config["hidden"], config["ffn"], config["vocab"]
    heads, kv_heads = config["heads"], config["kvHeads"]
    head = hidden // heads

    def weight(*shape):
        return jnp.asarray(rng.normal(0, 0.02, shape), jnp.float32)

    layer = lambda: {
        "norm1": jnp.ones(hidden),
        "norm2": jnp.ones(hidden),
        "q": weight(heads * head, hidden),
        "k": weight(kv_heads * head, hidden),
        "v": weight(kv_heads * head, hidden),
        "qb": jnp.zeros(heads * head),
        "kb": jnp.zeros(kv_heads * head),
        "vb": jnp.zeros(kv_heads * head),
        "o": weight(hidden, heads * head),
        "gate": weight(ffn, hidden),
        "up": weight(ffn, hidden),
        "down": weight(hidden, ffn),
    }
    return {
        "embed": weight(vocab, hidden),
        "norm": jnp.ones(hidden),
        "layers": [layer() for _ in range(config["layers"])],
    }


def rms(x, w):
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * w


def rope(x, cos, sin):
    half = x.shape[-1] // 2
    rotated = jnp.concatenate([-x[..., half:], x[..., :half]], -1)
    return x * cos + rotated * sin


def angles(positions, head):
    inverse = 1.0 / (THETA ** (jnp.arange(0, head, 2) / head))
    freqs = positions[..., None] * inverse
    both = jnp.concatenate([freqs, freqs], -1)
    return jnp.cos(both), jnp.sin(both)


def project(layer, x, heads, kv_heads):
    b, t, _ = x.shape
    split = lambda y, n: y.reshape(b, t, n, -1).transpose(0, 2, 1, 3)
    q = split(x @ layer["q"].T + layer["qb"], heads)
    k = split(x @ layer["k"].T + layer["kb"], kv_heads)
    v = split(x @ layer["v"].T + layer["vb"], kv_heads)
    return q, k, v


def mlp(layer, x):
    return (jax.nn.silu(x @ layer["gate"].T) * (x @ layer["up"].T)) @ layer["down"].T


def forward(params, ids, config):
    heads, kv_heads = config["heads"], config["kvHeads"]
    head = config["hidden"] // heads
    b, t = ids.shape
    cos, sin = angles(jnp.arange(t), head)
    mask = jnp.where(jnp.tril(jnp.ones((t, t), bool)), 0.0, -1e9)
    x = params["embed"][ids]
    for layer in params["layers"]:
        q, k, v = project(layer, rms(x, layer["norm1"]), heads, kv_heads)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        group = heads // kv_heads
        q = q.reshape(b, kv_heads, group * t, head)
        scores = jnp.einsum("bkqd,bksd->bkqs", q, k) / np.sqrt(head)
        scores = scores.reshape(b, kv_heads, group, t, t) + mask
        weights = jax.nn.softmax(scores, -1).reshape(b, kv_heads, group * t, t)
        out = jnp.einsum("bkqs,bksd->bkqd", weights, v).reshape(b, heads, t, head)
        x = x + out.transpose(0, 2, 1, 3).reshape(b, t, -1) @ layer["o"].T
        x = x + mlp(layer, rms(x, layer["norm2"]))
    return rms(x, params["norm"])


def train_step(config):
    def loss_fn(params, ids):
        logits = forward(params, ids, config)[:, :-1] @ params["embed"].T
        logp = jax.nn.log_softmax(logits, -1)
        return -jnp.mean(jnp.take_along_axis(logp, ids[:, 1:, None], -1))

    def step(params, m, v, count, ids):
        loss, grads = jax.value_and_grad(loss_fn)(params, ids)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
        scale = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
        count = count + 1
        lr, b1, b2 = 1e-3, 0.9, 0.95
        grads = jax.tree.map(lambda g: g * scale, grads)
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)
        c1, c2 = 1 - b1**count, 1 - b2**count
        params = jax.tree.map(
            lambda p, m, v: p - lr * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), params, m, v
        )
        return params, m, v, count, loss

    return jax.jit(step, donate_argnums=(0, 1, 2, 3))


def decode(config, new_tokens, length, style):
    """Greedy decoding with a static KV cache [layers][batch, kv_heads, length, head] in one program."""
    heads, kv_heads = config["heads"], config["kvHeads"]
    head = config["hidden"] // heads
    group = heads // kv_heads

    def attend(q, k, v, mask):  # q [b, kv, group, head], k and v [b, kv, length, head]
        if style == "einsum":
            scores = jnp.einsum("bkgd,bksd->bkgs", q, k) / np.sqrt(head) + mask
            return jnp.einsum("bkgs,bksd->bkgd", jax.nn.softmax(scores, -1), v)
        scores = jnp.sum(q[:, :, :, None] * k[:, :, None], -1) / np.sqrt(head) + mask
        return jnp.sum(jax.nn.softmax(scores, -1)[..., None] * v[:, :, None], -2)

    def one(params, caches, token, position):
        cos, sin = angles(position[None], head)
        mask = jnp.where(jnp.arange(length) <= position, 0.0, -1e9)
        x = params["embed"][token][:, None]
        b = x.shape[0]
        new = []
        for layer, (ck, cv) in zip(params["layers"], caches):
            q, k, v = project(layer, rms(x, layer["norm1"]), heads, kv_heads)
            q, k = rope(q, cos, sin), rope(k, cos, sin)
            ck = lax.dynamic_update_slice(ck, k, (0, 0, position, 0))
            cv = lax.dynamic_update_slice(cv, v, (0, 0, position, 0))
            new.append((ck, cv))
            out = attend(q.reshape(b, kv_heads, group, head), ck, cv, mask)
            x = x + out.reshape(b, 1, -1) @ layer["o"].T
            x = x + mlp(layer, rms(x, layer["norm2"]))
        logits = rms(x, params["norm"])[:, 0] @ params["embed"].T
        return new, jnp.argmax(logits, -1).astype(jnp.int32)

    def run(params, prompt):
        b, t = prompt.shape
        shape = (b, kv_heads, length, head)
        caches = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in params["layers"]]
        out = jnp.zeros((b, new_tokens), jnp.int32)

        def body(i, state):
            caches, token, out = state
            caches, token = one(params, caches, token, i)
            return caches, token, lax.dynamic_update_slice(out, token[:, None], (0, i))

        return lax.fori_loop(0, new_tokens, body, (caches, prompt[:, 0], out))[2]

    return jax.jit(run)


def median_seconds(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def matmul_case(request):
    n = request["n"]
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=(n, n)), jnp.float32)
    f = jax.jit(jnp.matmul)
    inner = request["inner"]

    def call():
        for _ in range(inner):
            y = f(a, a)
        y.block_until_ready()

    return call, inner


def dispatch_case(request):
    x = jnp.zeros(8)
    f = jax.jit(lambda x: x + x)
    inner = request["inner"]

    def call():
        for _ in range(inner):
            y = f(x)
        y.block_until_ready()

    return call, inner


def train_case(request):
    config = request["config"]
    rng = np.random.default_rng(0)
    params = init(rng, config)
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state = [params, zeros(), zeros(), jnp.float32(0)]
    ids = jnp.asarray(rng.integers(0, config["vocab"], (config["batch"], config["length"])))
    step = train_step(config)

    def call():
        *state[:], loss = step(*state, ids)
        loss.block_until_ready()

    return call, 1


def repeated(f, args, inner):
    """`inner` calls of the same compiled function on the same arguments."""

    def call():
        for _ in range(inner):
            y = f(*args)
        jax.block_until_ready(y)

    return call, inner


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def softmax_case(request):
    x = normal(0, request["rows"], request["columns"])
    return repeated(jax.jit(lambda x: jax.nn.softmax(x, -1)), (x,), request["inner"])


def layer_norm_case(request):
    x = normal(0, request["rows"], request["columns"])
    gain, bias = jnp.ones(request["columns"]), jnp.zeros(request["columns"])

    def norm(x, gain, bias):
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
        return (x - mean) * lax.rsqrt(variance + 1e-5) * gain + bias

    return repeated(jax.jit(norm), (x, gain, bias), request["inner"])


def attention_case(request):
    b, h, t, d = request["batch"], request["heads"], request["time"], request["head"]
    q, k, v = (normal(i, b, h, t, d) for i in range(3))
    mask = jnp.where(jnp.tril(jnp.ones((t, t), bool)), 0.0, -1e9)

    def loss(q, k, v):
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(d) + mask
        out = jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v)
        return jnp.sum(jnp.square(out))

    f = loss if request["forward"] else jax.grad(loss, argnums=(0, 1, 2))
    return repeated(jax.jit(f), (q, k, v), request["inner"])


def cross_entropy_case(request):
    x = normal(0, request["rows"], request["vocab"])
    ids = jnp.arange(request["rows"]) % request["vocab"]

    def loss(x):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x, -1), ids[:, None], -1))

    return repeated(jax.jit(jax.value_and_grad(loss)), (x,), request["inner"])


def adamw_case(request):
    shape, count, inner = (request["rows"], request["columns"]), request["count"], request["inner"]
    params = [normal(i, *shape) for i in range(count)]
    grads = [normal(100 + i, *shape) for i in range(count)]
    state = [params, [jnp.zeros(shape) for _ in params], [jnp.zeros(shape) for _ in params]]
    lr, b1, b2 = 1e-3, 0.9, 0.95

    def update(params, m, v, grads, corrections):
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads))
        scale = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
        grads = [g * scale for g in grads]
        m = [b1 * m + (1 - b1) * g for m, g in zip(m, grads)]
        v = [b2 * v + (1 - b2) * g * g for v, g in zip(v, grads)]
        c1, c2 = corrections
        params = [
            p - lr * (m / c1) / (jnp.sqrt(v / c2) + 1e-8) for p, m, v in zip(params, m, v)
        ]
        return params, m, v

    f = jax.jit(update, donate_argnums=(0, 1, 2))
    corrections = (jnp.float32(0.1), jnp.float32(0.05))

    def call():
        for _ in range(inner):
            state[:] = f(*state, grads, corrections)
        jax.block_until_ready(state)

    return call, inner


def compile_case(request):
    """Tracing, lowering and compiling the train step, nothing of it from a cache."""
    config = request["config"]
    params = init(np.random.default_rng(0), config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    ids = jnp.zeros((config["batch"], config["length"]), jnp.int32)

    def call():
        jax.clear_caches()
        train_step(config).lower(params, zeros, zeros, jnp.float32(0), ids).compile()

    return call, 1


def decode_case(request):
    config = request["config"]
    rng = np.random.default_rng(0)
    params = init(rng, config)
    prompt = jnp.asarray(rng.integers(0, config["vocab"], (config["batch"], 1)))
    run = decode(config, request["newTokens"], request["newTokens"], request["style"])
    return lambda: run(params, prompt).block_until_ready(), 1


CASES = {
    "matmul": matmul_case,
    "dispatch": dispatch_case,
    "train": train_case,
    "softmax": softmax_case,
    "layer_norm": layer_norm_case,
    "attention": attention_case,
    "cross_entropy": cross_entropy_case,
    "adamw": adamw_case,
    "compile": compile_case,
    "decode": decode_case,
}


def main():
    ready = {}
    print(json.dumps({"peer": f"JAX {jax.__version__}"}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        repeats = request.pop("repeats", 5)
        key = json.dumps(request, sort_keys=True)
        if key not in ready:
            ready[key] = CASES[request["case"]](request)
            ready[key][0]()
        call, inner = ready[key]
        print(json.dumps({"seconds": median_seconds(call, repeats) / inner}), flush=True)


if __name__ == "__main__":
    main()
