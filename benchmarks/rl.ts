/**
 * `deno task bench rl`: OREO training in this project's trainer, in PyTorch with the passes and the
 * padding of the paper's code, and in the best JAX that we could write, which gets the arrays that our
 * trainer packs. The three take turns on the same data from the same parameters; their losses are
 * compared, so that they are known to compute the same. Then the memory that a step plans, against what
 * its shapes need. Beside the time on the clock stand the CPU seconds of all cores, which say more where
 * other programs compute, too, though waiting threads may spin in them. BENCH_CASES, a regular
 * expression, limits the sizes; BENCH_ROUNDS is how often they take turns (3).
 */
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../errors.ts";
import {
  addValueHead,
  initParams,
  type TensorToWrite,
  VALUE_HEAD,
  writeSafetensors,
} from "../lm/mod.ts";
import {
  cosineRate,
  languageNetworks,
  pack,
  packShapes,
  planEpoch,
  trainOreo,
  type Trajectory,
  uniforms,
} from "../rl/mod.ts";
import { tf, useBackend } from "../xla/mod.ts";
import { configOf, type ModelSize } from "./engine_cases.ts";
import { type Peer, pythonEnvironment, startPeer } from "./peer.ts";
import { reportMemory } from "./rl_memory.ts";
import { printTable, type Row } from "./table.ts";

interface Case {
  name: string;
  model: ModelSize;
  /** Sequences of a batch and of a micro-batch. */
  batch: number;
  micro: number;
}

const cases: Case[] = [
  {
    name: "256 × 4, vocabulary 512",
    model: { hidden: 256, layers: 4, heads: 8, kvHeads: 4, ffn: 704, vocab: 512 },
    batch: 16,
    micro: 16,
  },
  {
    name: "512 × 8, vocabulary 4096",
    model: { hidden: 512, layers: 8, heads: 8, kvHeads: 4, ffn: 1408, vocab: 4096 },
    batch: 8,
    micro: 4,
  },
];

/** Of a run: every shape is compiled in the first pass over the data, and timed in the second. */
const perEpoch = 2;
const steps = 2 * perEpoch;
const rounds = Number(Deno.env.get("BENCH_ROUNDS") ?? 3);
const beta = 0.03;
const alpha = 0.01;
const peakRate = 1e-4;

/** Prompts and responses as long as those of grade-school mathematics: 40 to 120, and 30 to 330. */
export function syntheticTrajectories(count: number, vocab: number): Trajectory[] {
  const random = uniforms("bench/rl");
  const ids = (n: number) =>
    Array.from({ length: n }, () => 1 + Math.floor(random() * (vocab - 1)));
  return Array.from({ length: count }, (_, i) => {
    const responseIds = ids(Math.ceil(100 * Math.exp(2.4 * (random() - 0.5))));
    return {
      version: 1,
      query: `q${i}`,
      prompt: "",
      promptIds: ids(40 + Math.floor(random() * 80)),
      responseIds,
      stepEnds: [responseIds.length - 1],
      reward: random() < 0.5 ? 1 : 0,
      source: "bench",
    };
  });
}

interface Measured {
  seconds: number[];
  /** Seconds of all cores, which other programs on the machine lengthen less. */
  cpu: number[];
  losses: number[][];
}

async function ask(peer: Peer, request: Record<string, unknown>): Promise<Measured> {
  return await peer.ask(request) as unknown as Measured;
}

/** Seconds of the second pass over the data, each step's best of the rounds: others use the machine. */
function timed(rounds: Measured[], of: "seconds" | "cpu" = "seconds"): number {
  return Array.from({ length: perEpoch }, (_, i) => perEpoch + i)
    .reduce((sum, step) => sum + Math.min(...rounds.map(({ [of]: x }) => x[step]!)), 0);
}

/** Seconds that this process has computed, on all cores. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function write(path: string, params: Record<string, tf.Tensor>): Promise<void> {
  const tensors = new Map<string, TensorToWrite>(
    Object.entries(params).map(([name, x]) => [name, {
      shape: x.shape,
      dtype: "F32" as const,
      data: () => x.data<"float32">(),
    }]),
  );
  await writeSafetensors(path, tensors, {});
}

/** Typed arrays as the JAX peer reads them. */
function arrays(batch: ReturnType<typeof pack>[number]) {
  const layout = batch.layout!;
  const of = (data: Int32Array | Float32Array, shape: number[]) => ({
    data: [...data],
    shape,
    type: data instanceof Int32Array ? "int32" : "float32",
  });
  const [tokens, columns] = [[batch.rows, batch.time], [batch.sequences, batch.columns]];
  return {
    ids: of(batch.ids, tokens),
    segments: of(layout.segments, tokens),
    positions: of(layout.positions, tokens),
    at: of(layout.at, [layout.at.length]),
    targets: of(layout.targets, [layout.at.length]),
    columns: of(layout.columns, columns),
    actionWeights: of(batch.actionWeights, columns),
    rewards: of(batch.rewards, [batch.sequences]),
  };
}

async function runCase(
  { name, model, batch, micro }: Case,
  peers: { torch: Peer; jax: Peer },
  folder: string,
): Promise<{ torch: Row; jax: Row }> {
  const config = configOf(model);
  const policy = initParams(config, 1);
  const value = {
    ...addValueHead(config, policy),
    [VALUE_HEAD]: tf.ones([1, model.hidden]).mul(0.02),
  };
  const files = { policy: join(folder, "policy"), value: join(folder, "value") };
  await write(files.policy, policy);
  await write(files.value, value);
  const items = syntheticTrajectories(perEpoch * batch, model.vocab);
  const lengths = items.map((t) => t.promptIds.length + t.responseIds.length);
  const batches = planEpoch(lengths, { batchSize: batch, seed: 0, epoch: 0, window: 1 });
  const parts = batches.map((indices) => indices.map((i) => items[i]!));
  const shapes = packShapes(parts, { microBatch: micro, items });
  const packed = parts.map((part) => pack(part, { padId: 0, shapes }));
  const schedule = { totalSteps: steps, warmupSteps: 1, learningRate: peakRate };
  const rates = Array.from({ length: steps }, (_, step) => cosineRate(step, schedule));
  const shared = { config: model, ...files, beta, alpha, rates };
  const requests = {
    torch: {
      ...shared,
      batches: [...batches, ...batches],
      micro,
      pad: 0,
      items: items.map(({ promptIds, responseIds, reward }) => ({
        prompt: promptIds,
        response: responseIds,
        reward,
      })),
    },
    jax: { ...shared, steps: [...packed, ...packed].map((of) => of.map(arrays)) },
  };
  const inputs = { networks: languageNetworks(config), policy, value, trajectories: items };
  const options = {
    beta,
    alpha,
    policyLearningRate: peakRate,
    valueLearningRate: peakRate,
    batchSize: batch,
    microBatch: micro,
    steps,
    warmupSteps: 1,
    seed: 0,
    padId: 0,
    maxLength: config.maxPositions,
    reportEvery: 1,
  };
  const packedOptions = { ...options, packing: {}, plan: () => batches };
  const ours = async (packing: boolean): Promise<Measured & { padding: number }> => {
    const found: Measured = { seconds: [], cpu: [], losses: [] };
    let padding = 0;
    let last = performance.now();
    let lastCpu = cpuSeconds();
    const result = await trainOreo(inputs, {
      ...(packing ? packedOptions : options),
      onMetrics: (_, metrics) => {
        const now = performance.now();
        const nowCpu = cpuSeconds();
        found.seconds.push((now - last) / 1000);
        found.cpu.push(nowCpu - lastCpu);
        found.losses.push([metrics.value_loss!, metrics.policy_loss!, metrics.kl!]);
        padding += metrics.padding! / steps;
        last = now;
        lastCpu = nowCpu;
      },
    });
    tf.dispose([result.policy, result.value]);
    return { ...found, padding };
  };
  const bucketed = await ours(false);
  const padding = { packed: 0, bucketed: bucketed.padding };
  const runs: Record<"torch" | "jax" | "ours", Measured[]> = { torch: [], jax: [], ours: [] };
  for (let round = 0; round < rounds; round++) {
    const packedRun = await ours(true);
    const found = {
      ours: packedRun,
      torch: await ask(peers.torch, requests.torch),
      jax: await ask(peers.jax, requests.jax),
    };
    padding.packed = packedRun.padding;
    for (const peer of ["torch", "jax"] as const) sameLosses(peer, found[peer], packedRun);
    for (const key of ["torch", "jax", "ours"] as const) runs[key].push(found[key]);
  }
  const rate = (of: Measured[]) => perEpoch * batch / timed(of);
  const row = (peer: Measured[]): Row => ({
    name,
    unit: "samples/s",
    peer: rate(peer),
    ours: rate(runs.ours),
    ratio: rate(runs.ours) / rate(peer),
  });
  const percent = (x: number) => `${(100 * x).toFixed(1)} %`;
  console.log(
    `${name}: padding ${percent(padding.packed)} packed, ${
      percent(padding.bucketed)
    } in buckets; ` +
      `packed is ${(rate(runs.ours) / rate([bucketed])).toFixed(2)} × as fast as in buckets`,
  );
  const cpu = (of: Measured[]) => (timed(of, "cpu") / (perEpoch * batch)).toFixed(3);
  console.log(
    `${name}: CPU seconds a sample: ${peers.torch.name} ${cpu(runs.torch)}, ` +
      `${peers.jax.name} ${cpu(runs.jax)}, ours ${cpu(runs.ours)}`,
  );
  reportMemory(name, { config, inputs, options: packedOptions, batch: packed[0]! });
  tf.dispose([policy, value]);
  return { torch: row(runs.torch), jax: row(runs.jax) };
}

/** The peers' losses are ours, or the comparison of times says nothing. */
function sameLosses(peer: string, theirs: Measured, ours: Measured): void {
  for (const [step, losses] of theirs.losses.entries()) {
    for (const [k, loss] of losses.entries()) {
      const own = ours.losses[step]![k]!;
      if (Math.abs(loss - own) <= 1e-4 + 2e-3 * Math.abs(own)) continue;
      throw new UserError(
        `bench: ${peer} computes something else: loss ${k} of step ${step} is ${loss}, ours ${own}`,
      );
    }
  }
}

export async function benchRl(): Promise<void> {
  const wanted = new RegExp(Deno.env.get("BENCH_CASES") ?? "");
  const torch = await pythonEnvironment("bench-torch", ["torch==2.15.0", "numpy"]);
  const jax = await pythonEnvironment("bench-jax", ["jax==0.10.2", "numpy"]);
  const backend = await useBackend();
  const peers = {
    torch: await startPeer(join(torch, "bin", "python"), "torch_oreo_peer.py"),
    jax: await startPeer(join(jax, "bin", "python"), "jax_oreo_peer.py"),
  };
  const folder = await Deno.makeTempDir({ prefix: "oreo-bench-" });
  try {
    const rows: { torch: Row; jax: Row }[] = [];
    for (const each of cases.filter(({ name }) => wanted.test(name))) {
      rows.push(await runCase(each, peers, folder));
    }
    const title = `OREO training (${backend.name}:${backend.platform})`;
    printTable(title, peers.torch.name, rows.map((row) => row.torch));
    printTable(title, peers.jax.name, rows.map((row) => row.jax));
  } finally {
    await Deno.remove(folder, { recursive: true });
    await peers.torch.close();
    await peers.jax.close();
  }
}
