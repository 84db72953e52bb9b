/**
 * The stage's side of a job: lays out its inputs, runs its code, publishes its outputs. The same code
 * runs in this process (`inline`), in a child process, or in a container far away.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { unknownName, UserError } from "../errors.ts";
import { type Json, type Values, valuesSchema } from "./events.ts";
import { explainDisk, filesBelow, removeNames, removeQuietly } from "./files.ts";
import type { StageJob, StageOutcome, StageReport } from "./protocol.ts";
import { type InputArtifact, RetryableError, type Stage, type StageContext } from "./stage.ts";
import { CorruptArtifactError, type Lineage, type Store } from "./store.ts";

/** The stages that a program has, by name; a function loads its stage when it is first needed. */
export type StageRegistry = Readonly<Record<string, Stage | (() => Promise<Stage>)>>;

/** Progress is told at most so often. */
const PROGRESS_INTERVAL_MS = 200;

/** Finds and loads a stage. Throws a UserError with the nearest right name. */
export async function findStage(name: string, registry: StageRegistry): Promise<Stage> {
  const found = registry[name];
  if (found === undefined) throw unknownName("stage", name, Object.keys(registry));
  return typeof found === "function" ? await found() : found;
}

/** Does a job. Whatever goes wrong is an outcome, not an exception. */
export async function runStage(
  job: StageJob,
  registry: StageRegistry,
  store: Store,
  report: (report: StageReport) => void,
  signal: AbortSignal,
): Promise<StageOutcome> {
  try {
    const stage = await findStage(job.stage, registry);
    const params = stage.params.parse(job.params);
    if (existsSync(job.work)) await removeQuietly(job.work);
    const inputs = await layOut(job, stage, store);
    const outputs: Record<string, { path: string }> = {};
    for (const name of Object.keys(stage.outputs)) {
      outputs[name] = { path: join(job.work, "outputs", name) };
      Deno.mkdirSync(outputs[name].path, { recursive: true });
    }
    signal.throwIfAborted();
    const context: StageContext = {
      params,
      inputs: inputs as StageContext["inputs"],
      outputs,
      get scratch() {
        // Made for those who use it only: making and removing folders is much of a trivial stage.
        Deno.mkdirSync(job.scratch, { recursive: true });
        return job.scratch;
      },
      seed: job.seed,
      signal,
      ...reporters(report),
    };
    const values = jsonValues(await stage.run(context as never) ?? {}, context);
    signal.throwIfAborted();
    const artifacts = await publish(job, stage, store, outputs, values);
    removeNames(job.work);
    return { type: "done", artifacts, values };
  } catch (error) {
    return failure(error, job, report, signal);
  }
}

async function layOut(
  job: StageJob,
  stage: Stage,
  store: Store,
): Promise<Record<string, InputArtifact | InputArtifact[] | undefined>> {
  const inputs: Record<string, InputArtifact | InputArtifact[] | undefined> = {};
  for (const name of Object.keys(stage.inputs)) {
    const ids = job.inputs[name];
    const one = async (id: string, path: string): Promise<InputArtifact> => {
      await store.materialise(id, path);
      return { path, id };
    };
    const path = join(job.work, "inputs", name);
    if (ids === undefined) inputs[name] = undefined;
    else if (typeof ids === "string") inputs[name] = await one(ids, path);
    else {
      const list: InputArtifact[] = [];
      for (const [i, id] of ids.entries()) list.push(await one(id, join(path, String(i))));
      inputs[name] = list;
    }
  }
  return inputs;
}

async function publish(
  job: StageJob,
  stage: Stage,
  store: Store,
  outputs: Record<string, { path: string }>,
  values: Values,
): Promise<Record<string, string>> {
  const lineage: Lineage = {
    stage: job.stage,
    stageVersion: stage.version,
    key: job.key,
    params: job.params,
    seed: job.seed,
    parents: Object.fromEntries(
      Object.entries(job.inputs).map((
        [name, ids],
      ) => [name, typeof ids === "string" ? [ids] : ids]),
    ),
    code: job.code,
  };
  const artifacts: Record<string, string> = {};
  for (const [name, { kind, version }] of Object.entries(stage.outputs)) {
    const files = await filesBelow(outputs[name]!.path);
    if (files.size === 0) {
      throw new Error(`it wrote no file to its output '${name}' (${outputs[name]!.path})`);
    }
    artifacts[name] = await store.publish(files, { kind, version, lineage, values, consume: true });
  }
  return artifacts;
}

function reporters(
  report: (report: StageReport) => void,
): Pick<StageContext, "log" | "progress" | "metric"> {
  let told = -Infinity;
  return {
    log: (text, level = "info") => report({ type: "log", text, level }),
    progress(done, total, unit) {
      const now = performance.now();
      if (done < total && now - told < PROGRESS_INTERVAL_MS) return;
      told = now;
      report({ type: "progress", done, total, unit });
    },
    metric(step, values) {
      const finite = Object.entries(values).map(([name, value]) =>
        [name, Number.isFinite(value) ? value : null] as const
      );
      report({ type: "metric", step, values: Object.fromEntries(finite) });
    },
  };
}

/** What a stage returned, as JSON has it: numbers that JSON lacks become null, with a warning. */
function jsonValues(returned: unknown, context: StageContext): Values {
  const clean = (value: unknown, path: string): Json => {
    if (typeof value === "number" && !Number.isFinite(value)) {
      context.log(`the value '${path}' is ${value}; it is kept as null`, "warn");
      return null;
    }
    if (Array.isArray(value)) return value.map((inner, i) => clean(inner, `${path}.${i}`));
    if (typeof value === "object" && value !== null) {
      const members = Object.entries(value).filter(([, inner]) => inner !== undefined);
      return Object.fromEntries(members.map(([key, v]) => [key, clean(v, `${path}.${key}`)]));
    }
    return value as Json;
  };
  return valuesSchema.parse(clean(returned, "result"));
}

function failure(
  cause: unknown,
  job: StageJob,
  report: (report: StageReport) => void,
  signal: AbortSignal,
): StageOutcome {
  const error = explainDisk(cause, `running stage '${job.node}', whose files go to ${job.store}`);
  if (error instanceof CorruptArtifactError) {
    return { type: "failed", message: error.message, retryable: true, corrupt: error.artifact };
  }
  if (signal.aborted) return { type: "failed", message: "stopped", retryable: true };
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof UserError) return { type: "failed", message, retryable: false };
  if (error instanceof Error && error.stack !== undefined) {
    report({ type: "log", level: "error", text: error.stack });
  }
  return { type: "failed", message, retryable: error instanceof RetryableError };
}
