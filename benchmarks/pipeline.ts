/**
 * The stage graph's engine against DVC and Metaflow on one graph of trivial stages, its store against
 * `cp` and `sha256sum`, and what its planner and journal take at size. BENCH_STAGES sets the number of
 * stages (default 300), BENCH_GIB the store's artifact (default 1), BENCH_EVENTS the journal's events
 * (default 1,000,000).
 */
import { join } from "node:path";
import { z } from "zod";
import { UserError } from "../errors.ts";
import {
  artifactKind,
  buildGraph,
  defineStage,
  defineWorkflow,
  list,
  openJournal,
  openStore,
  planGraph,
  processExecutor,
  runWorkflow,
  stageCommand,
  type Workflow,
} from "../pipeline/mod.ts";
import { median, pythonEnvironment } from "./peer.ts";
import { printTable, type Row } from "./table.ts";

const PACKAGES = ["dvc==3.67.1", "metaflow==2.19.39"];
const PROCESSES = 2;

const text = artifactKind("text", 1);
const write = defineStage({
  name: "write",
  version: 1,
  params: z.object({ text: z.string() }),
  inputs: { before: list(text) },
  outputs: { text },
  sharesProcess: true,
  async run(ctx) {
    await Deno.writeTextFile(join(ctx.outputs.text.path, "text"), ctx.params.text);
  },
});

/** One stage, `count` that wait for it, and one that waits for all of those. */
function fan(count: number): Workflow {
  return defineWorkflow({
    name: "fan",
    description: "a fan of trivial stages",
    params: z.object({}),
    build(w) {
      const root = w.stage("root", write, { params: { text: "root" }, inputs: { before: [] } });
      const shards = w.shards("s", write, count, (i) => ({
        params: { text: String(i) },
        inputs: { before: [root.outputs.text] },
      }));
      const before = shards.map((shard) => shard.outputs.text);
      w.stage("end", write, { params: { text: "end" }, inputs: { before } });
    },
  });
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function command(
  program: string,
  args: string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<void> {
  const { success, stderr, stdout } = await new Deno.Command(program, { args, cwd, env }).output();
  if (success) return;
  const said = new TextDecoder().decode(stderr.length > 0 ? stderr : stdout).trim().slice(-500);
  throw new UserError(`bench: '${program} ${args.join(" ")}' failed: ${said}`);
}

function dvcYaml(count: number): string {
  const stage = (name: string, deps: string[]) =>
    `  ${name}:\n    cmd: echo ${name} > ${name}.txt\n    deps: [${deps.join(", ")}]\n` +
    `    outs: [${name}.txt]\n`;
  const names = Array.from({ length: count }, (_, i) => `s${i}`);
  return "stages:\n" + stage("root", []) +
    names.map((name) => stage(name, ["root.txt"])).join("") +
    stage("end", names.map((name) => `${name}.txt`));
}

const METAFLOW = `
import os
from metaflow import FlowSpec, step

class Fan(FlowSpec):
    @step
    def start(self):
        self.items = list(range(int(os.environ["COUNT"])))
        self.next(self.shard, foreach="items")

    @step
    def shard(self):
        self.text = str(self.input)
        self.next(self.fan_in)

    @step
    def fan_in(self, inputs):
        self.count = sum(1 for _ in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Fan()
`;

async function graphRows(folder: string, count: number): Promise<Row[]> {
  const bin = join(await pythonEnvironment("pipeline", PACKAGES), "bin");
  const dvcFolder = join(folder, "dvc");
  await Deno.mkdir(dvcFolder);
  await Deno.writeTextFile(join(dvcFolder, "dvc.yaml"), dvcYaml(count));
  const quiet = { DVC_NO_ANALYTICS: "1", USERNAME: "bench", METAFLOW_USER: "bench" };
  await command(join(bin, "dvc"), ["init", "--no-scm", "-q"], dvcFolder, quiet);
  await Deno.writeTextFile(join(folder, "fan.py"), METAFLOW);

  const store = openStore(join(folder, "store"));
  const journal = openJournal(join(folder, "journal.sqlite"));
  const ours = () =>
    runWorkflow(fan(count), {}, {
      store,
      journal,
      executor: processExecutor({ main: import.meta.url }),
      out: join(folder, "out"),
      capacity: { slots: PROCESSES },
    });
  const first = await seconds(ours);
  const dvc = await seconds(() => command(join(bin, "dvc"), ["repro", "-q"], dvcFolder, quiet));
  const again = await seconds(ours);
  const dvcAgain = await seconds(() =>
    command(join(bin, "dvc"), ["repro", "-q"], dvcFolder, quiet)
  );
  const graph = buildGraph(fan(count), {}, 0);
  const planned = await seconds(() => planGraph(graph, { store, journal }));
  const dvcStatus = await seconds(() =>
    command(join(bin, "dvc"), ["status", "-q"], dvcFolder, quiet)
  );
  const split = ["--max-workers", String(PROCESSES), "--max-num-splits", String(count + 1)];
  const metaflow = await seconds(() =>
    command(join(bin, "python"), ["fan.py", "--quiet", "run", ...split], folder, {
      ...quiet,
      COUNT: String(count),
      METAFLOW_HOME: join(folder, "metaflow"),
    })
  );
  await journal.close();
  const row = (name: string, peer: number, mine: number) => {
    return { name, unit: "s", peer, ours: mine, ratio: peer / mine };
  };
  return [
    row(`${count} stages, DVC`, dvc, first),
    row(`${count} stages, Metaflow`, metaflow, first),
    row(`${count} stages that are done, DVC`, dvcAgain, again),
    row(`${count} stages that are done, planned, DVC status`, dvcStatus, planned),
  ];
}

async function storeRows(folder: string, gib: number): Promise<Row[]> {
  const file = join(folder, "weights");
  await command(
    "sh",
    ["-c", `head -c ${Math.round(gib * 2 ** 30)} /dev/urandom > ${file}`],
    folder,
  );
  const copied = `cp ${file} copy && sync copy && sha256sum copy && rm copy`;
  const peer = await seconds(() => command("sh", ["-c", copied], folder));
  const store = openStore(join(folder, "large"));
  const lineage = {
    stage: "",
    stageVersion: 1,
    key: "",
    params: {},
    seed: 0,
    parents: {},
    code: "",
  };
  const options = { kind: "weights", version: 1, lineage, values: {}, consume: false };
  let id = "";
  const put = await seconds(async () => id = await store.publish(new Map([["w", file]]), options));
  const get = await seconds(() => store.materialise(id, join(folder, "back")));
  return [
    { name: `put ${gib} GiB`, unit: "s", peer, ours: put, ratio: peer / put },
    { name: `get ${gib} GiB, checked`, unit: "s", peer, ours: get, ratio: peer / get },
  ];
}

/** `count` shards that wait for nothing, so that each has to be looked up in the store. */
function apart(count: number): Workflow {
  return defineWorkflow({
    name: "apart",
    description: "trivial stages that wait for nothing",
    params: z.object({}),
    build(w) {
      w.shards("s", write, count, (i) => ({ params: { text: String(i) }, inputs: { before: [] } }));
    },
  });
}

async function planning(folder: string): Promise<void> {
  const store = openStore(join(folder, "empty"));
  console.log();
  for (const make of [fan, apart]) {
    const workflow = make(100_000);
    const took = await seconds(async () => {
      await planGraph(buildGraph(workflow, {}, 0), { store });
    });
    const mib = Deno.memoryUsage().rss / 2 ** 20;
    console.log(
      `planning 100,000 shards (${workflow.description}): ${took.toFixed(2)} s, ${
        mib.toFixed(0)
      } MiB`,
    );
  }
}

const RUNS = 50;
const STAGES_PER_RUN = 100;
const QUERIES = 20;

/** Fills a journal with runs of equal length, all but the last ended, as runners would. */
async function fillJournal(path: string, events: number): Promise<void> {
  const journal = openJournal(path);
  const ids = Array.from({ length: STAGES_PER_RUN }, (_, i) => `s${i}`);
  const nodes = ids.map((id) => ({ id, stage: "write", inputs: [], params: { text: id } }));
  const owner = { machine: "bench", host: "bench", pid: 1, birth: "", nonce: "bench" };
  const [key, out] = ["k".repeat(64), "out"];
  for (let r = 0; r < RUNS; r++) {
    const claim = await journal.claim({ newRun: `bench-${r}`, fingerprint: `${r}` }, owner);
    if (claim.state !== "granted") throw new Error(`run ${r} is held`);
    const { writer } = claim;
    writer.append({
      type: "run.started",
      workflow: "bench",
      params: {},
      seed: r,
      graph: { nodes },
      out,
    });
    const perStage = Math.floor((events / RUNS - 2) / STAGES_PER_RUN);
    for (const stage of ids) {
      writer.append({ type: "stage.started", stage, attempt: 1, key });
      for (let step = 1; step <= perStage - 2; step++) {
        const attempt = 1;
        if (step % 2 === 0) {
          writer.append({ type: "stage.metric", stage, attempt, step, values: { loss: 1 / step } });
        } else {
          writer.append({ type: "stage.log", stage, attempt, text: `step ${step}`, level: "info" });
        }
      }
      const done = { stage, attempt: 1, key, artifacts: { text: key }, values: {}, seconds: 1 };
      writer.append({ type: "stage.done", ...done });
      await writer.flush();
    }
    if (r < RUNS - 1) writer.append({ type: "run.done", seconds: 1, values: {} });
    await writer.close();
  }
  await journal.close();
}

async function journalRows(folder: string, events: number): Promise<void> {
  const path = join(folder, "million.sqlite");
  const filling = await seconds(() => fillJournal(path, events));
  const journal = openJournal(path, { readOnly: true });
  const run = `bench-${RUNS - 1}`;
  const lastSeq = (await journal.run(run))!.lastSeq;
  const queries: Record<string, () => Promise<unknown>> = {
    "the list of runs": () => journal.runs({ limit: 100 }),
    "a run with its stages": () => journal.run(run),
    "its latest events": () => journal.events(run, { afterSeq: lastSeq - 200 }),
    "a stage's log lines": () => journal.events(run, { stage: "s50", types: ["stage.log"] }),
    "a stage's curve": () => journal.metrics(run, "s50"),
    "the run's curves, 1,000 points": () => journal.metrics(run, undefined, { maxPoints: 1_000 }),
  };
  console.log(
    `\nJournal of ${events.toLocaleString("en")} events, written in ${filling.toFixed(1)} s`,
  );
  for (const [name, query] of Object.entries(queries)) {
    const times: number[] = [];
    for (let i = 0; i < QUERIES; i++) times.push(await seconds(query) * 1000);
    const worst = Math.max(...times);
    console.log(
      `  ${name.padEnd(32)} median ${median(times).toFixed(1)} ms, worst ${worst.toFixed(1)} ms`,
    );
  }
  await journal.close();
}

/** Runs all of it and prints it. */
export async function benchPipeline(): Promise<void> {
  const count = Number(Deno.env.get("BENCH_STAGES") ?? 300);
  const gib = Number(Deno.env.get("BENCH_GIB") ?? 1);
  const folder = await Deno.makeTempDir({ prefix: "bench-pipeline-" });
  try {
    await planning(folder);
    await journalRows(folder, Number(Deno.env.get("BENCH_EVENTS") ?? 1_000_000));
    const store = await storeRows(folder, gib);
    printTable("Store against cp, sync and sha256sum", "cp + sha256sum", store);
    printTable(
      `Trivial stages, ${PROCESSES} at a time`,
      "peer",
      await graphRows(folder, count),
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const [name, stage, option, spec] = Deno.args;
  if (name === "stage" && option === "--spec") await stageCommand(stage!, spec!, { write });
  await benchPipeline();
}
