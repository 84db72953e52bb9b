/**
 * The engine against JAX and tfjs's wasm backend, in one run. Peer and project take turns, so that a busy
 * moment hits both; each figure is the median over the rounds, the ratio is speed against the peer (above
 * 1: we are faster). The geometric mean is over every case but the cost of a dispatch and of compiling,
 * which have tables of their own. BENCH_CASES, a regular expression on names, limits the cases.
 */
import { join } from "node:path";
import { useBackend } from "../xla/mod.ts";
import {
  adamW,
  attention,
  crossEntropy,
  decode,
  dispatch,
  layerNorm,
  matmul,
  type ModelSize,
  softmax,
  type Timed,
  trainStep,
} from "./engine_cases.ts";
import { median, type Peer, pythonEnvironment, startPeer } from "./peer.ts";
import { geometricMean, printTable, type Row } from "./table.ts";

const small = { hidden: 256, layers: 4, heads: 8, kvHeads: 4, ffn: 704, vocab: 512 };
const large = { hidden: 512, layers: 8, heads: 8, kvHeads: 4, ffn: 1408, vocab: 4096 };
const smallBatch = { batch: 16, length: 256 };
const largeBatch = { batch: 4, length: 256 };
const decodeShape = { batch: 16, newTokens: 128 };

interface Case {
  readonly name: string;
  readonly unit: string;
  readonly make: () => Timed;
  /** The peer's ways of doing the same; the best counts. */
  readonly requests: readonly Record<string, unknown>[];
  /** What is printed, from the seconds of one unit of work. */
  readonly figure: (seconds: number) => number;
  readonly rounds?: number;
}

const milliseconds = (s: number) => s * 1e3;
const microseconds = (s: number) => s * 1e6;

const matmuls = ([[128, 400], [256, 200], [512, 40], [1024, 10], [2048, 3]] as const).map((
  [n, inner],
): Case => ({
  name: `matmul ${n}`,
  unit: "GFLOP/s",
  make: () => matmul(n, inner),
  requests: [{ case: "matmul", n, inner }],
  figure: (s) => 2 * n ** 3 / s / 1e9,
  rounds: 9,
}));

function trainCase(name: string, model: ModelSize, shape: typeof smallBatch, rounds: number): Case {
  return {
    name,
    unit: "tokens/s",
    make: () => trainStep(model, shape),
    requests: [{ case: "train", config: { ...model, ...shape } }],
    figure: (s) => shape.batch * shape.length / s,
    rounds,
  };
}

const rows = { rows: 4096, columns: 1024 };
const heads = { batch: 4, heads: 8, time: 256, head: 64 };
const vocabulary = { rows: 1024, columns: 4096 };
const weights = { rows: 512, columns: 1024 };

const cases: readonly Case[] = [
  ...matmuls,
  {
    name: "softmax 4096 × 1024",
    unit: "ms",
    make: () => softmax(rows, 20),
    requests: [{ case: "softmax", ...rows, inner: 20 }],
    figure: milliseconds,
  },
  {
    name: "layer norm 4096 × 1024",
    unit: "ms",
    make: () => layerNorm(rows, 20),
    requests: [{ case: "layer_norm", ...rows, inner: 20 }],
    figure: milliseconds,
  },
  ...[true, false].map((forward): Case => ({
    name: `attention 4 × 8 × 256 × 64 ${forward ? "forward" : "with gradients"}`,
    unit: "ms",
    make: () => attention(heads, forward, 10),
    requests: [{ case: "attention", ...heads, forward, inner: 10 }],
    figure: milliseconds,
  })),
  {
    name: "cross-entropy 1024 × 4096 with gradient",
    unit: "ms",
    make: () => crossEntropy(vocabulary, 20),
    requests: [{ case: "cross_entropy", rows: 1024, vocab: 4096, inner: 20 }],
    figure: milliseconds,
  },
  {
    name: "AdamW 8 × 512 × 1024",
    unit: "ms",
    make: () => adamW(weights, 8, 20),
    requests: [{ case: "adamw", ...weights, count: 8, inner: 20 }],
    figure: milliseconds,
  },
  trainCase("train step 256 × 4", small, smallBatch, 7),
  trainCase("train step 512 × 8, vocabulary 4096", large, largeBatch, 5),
  {
    name: "decode",
    unit: "tokens/s",
    make: () => decode(small, decodeShape.batch, decodeShape.newTokens),
    requests: ["einsum", "reduce"].map((style) => ({
      case: "decode",
      style,
      newTokens: decodeShape.newTokens,
      config: { ...small, batch: decodeShape.batch },
    })),
    figure: (s) => decodeShape.batch * decodeShape.newTokens / s,
  },
];

const dispatchCase: Case = {
  name: "dispatch",
  unit: "µs",
  make: () => dispatch(2000),
  requests: [{ case: "dispatch", inner: 2000 }],
  figure: microseconds,
};

/** Runs ours and the peer's requests in turns; the seconds of one unit. */
async function takeTurns(
  ours: Timed,
  peer: Peer,
  requests: readonly Record<string, unknown>[],
  rounds: number,
): Promise<{ ours: number; peer: number }> {
  const mine: number[] = [];
  const theirs: number[][] = requests.map(() => []);
  await ours();
  for (const request of requests) await peer.seconds({ ...request, repeats: 1 });
  for (let round = 0; round < rounds; round++) {
    mine.push(await ours());
    for (const [i, request] of requests.entries()) {
      theirs[i]!.push(await peer.seconds({ ...request, repeats: 1 }));
    }
  }
  return { ours: median(mine), peer: Math.min(...theirs.map(median)) };
}

async function measured({ name, unit, make, requests, figure, rounds = 5 }: Case, peer: Peer) {
  const result = await takeTurns(make(), peer, requests, rounds);
  return {
    name,
    unit,
    peer: figure(result.peer),
    ours: figure(result.ours),
    ratio: result.peer / result.ours,
  };
}

const wanted = new RegExp(Deno.env.get("BENCH_CASES") ?? "");

export async function benchEngine(): Promise<void> {
  const environment = await pythonEnvironment("bench-jax", ["jax==0.10.2", "numpy"]);
  const peer = await startPeer(join(environment, "bin", "python"), "jax_peer.py");
  const backend = await useBackend();
  const chosen = cases.filter(({ name }) => wanted.test(name));
  const table: Row[] = [];
  for (const each of chosen) table.push(await measured(each, peer));
  if (table.length > 0) {
    const title = `engine (${backend.name}:${backend.platform}) against ${peer.name}`;
    printTable(title, peer.name, table);
    const worst = table.reduce((a, b) => b.ratio < a.ratio ? b : a);
    console.log(
      `geometric mean of ${table.length} ratios: ${
        geometricMean(table.map(({ ratio }) => ratio)).toFixed(3)
      }; lowest ${worst.ratio.toFixed(2)} (${worst.name})`,
    );
  }
  const overhead: Row[] = [];
  if (wanted.test(dispatchCase.name)) overhead.push(await measured(dispatchCase, peer));
  if (wanted.test("compile")) overhead.push(...await compileRows(peer));
  if (overhead.length > 0) printTable(`engine overhead against ${peer.name}`, peer.name, overhead);
  await peer.close();
  if (wanted.test("wasm")) await againstWasm();
}

interface Start {
  start: number;
  program: number;
  compiled: number;
  loaded: number;
}

/** A fresh process that gets the large train step ready, with compiled programs kept in `folder`. */
async function startProcess(folder: string): Promise<Start> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      join(import.meta.dirname!, "engine_start.ts"),
      JSON.stringify({ model: large, shape: largeBatch }),
    ],
    env: { XLA_PROGRAMS: folder },
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("bench: the process that times compiling failed; see above");
  return JSON.parse(new TextDecoder().decode(stdout)) as Start;
}

/** Tracing plus compiling the large train step, cold and from the cache, beside JAX's cold time. */
async function compileRows(peer: Peer): Promise<Row[]> {
  const [cold, warm, jax]: number[][] = [[], [], []];
  for (let round = 0; round < 3; round++) {
    const folder = await Deno.makeTempDir({ prefix: "oreo-bench-" });
    try {
      const first = await startProcess(folder);
      if (first.compiled !== 1) throw new Error("bench: the first process compiled nothing");
      cold!.push(first.program);
      jax!.push(
        await peer.seconds({ case: "compile", config: { ...large, ...largeBatch }, repeats: 1 }),
      );
      const second = await startProcess(folder);
      if (second.compiled !== 0 || second.loaded !== 1) {
        throw new Error("bench: the second process did not find the program in the cache");
      }
      warm!.push(second.start + second.program);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
  const row = (name: string, ours: number): Row => ({
    name,
    unit: "s",
    peer: median(jax!),
    ours,
    ratio: median(jax!) / ours,
  });
  return [
    row("trace and compile train step 512 × 8", median(cold!)),
    row("the same from the cache, with the backend's start", median(warm!)),
  ];
}

/** tfjs's wasm backend on the same functions, called plainly: what one leaves behind. */
async function againstWasm(): Promise<void> {
  const work = [
    { name: "matmul 512", make: () => matmul(512, 3) },
    { name: "train step 256 × 4", make: () => trainStep(small, smallBatch, true) },
  ];
  const measure = async (spec: string) => {
    await useBackend(spec);
    const times: number[] = [];
    for (const { make } of work) {
      const run = make();
      await run();
      times.push(await run());
    }
    return times;
  };
  const [wasm, xla] = [await measure("wasm"), await measure("xla")];
  const table = work.map(({ name }, i): Row => ({
    name,
    unit: "ms",
    peer: wasm[i]! * 1000,
    ours: xla[i]! * 1000,
    ratio: wasm[i]! / xla[i]!,
  }));
  printTable("engine against tfjs wasm", "tfjs wasm", table);
}
