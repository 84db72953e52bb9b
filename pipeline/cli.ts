/**
 * What the `pipeline` command does, apart from reading its options: plan, run or resume a workflow
 * (`cli_runs.ts` has what is about runs). The program that knows the workflows and stages passes them in.
 */
import { unknownName, UserError } from "../errors.ts";
import { byHand, type InputPaths, inputPaths, keepApart, requirePaths } from "./by_hand.ts";
import { type Display, jsonDisplay, plainDisplay, terminalDisplay } from "./display.ts";
import type { Executor } from "./executor.ts";
import { DEFAULT_STORE, findRun, type PlaceOptions, print, withJournal } from "./cli_place.ts";
import { inlineExecutor } from "./executors/inline.ts";
import { processExecutor } from "./executors/process.ts";
import { type Graph, graphRecord, longest, toMermaid, toText } from "./graph.ts";
import { applyOverrides, describeParams, parseParams } from "./params.ts";
import { paramsFromEnvironment, readParamsFile } from "./params_file.ts";
import { LeaseLostError } from "./journal.ts";
import { onlyNode } from "./only.ts";
import { planGraph } from "./plan.ts";
import type { RunResult } from "./run_options.ts";
import { runGraph } from "./runner.ts";
import type { Store } from "./store.ts";
import type { Budget } from "./usage.ts";
import { openStore } from "./store_open.ts";
import { findStage, type StageRegistry } from "./worker.ts";
import { buildGraph, IMPORT_STAGE, type Workflow } from "./workflow.ts";

/** The workflows that a program has, by name; a function loads its workflow when it is needed. */
export type WorkflowRegistry = Readonly<Record<string, Workflow | (() => Promise<Workflow>)>>;

/** What a program brings to the command. */
export interface Program {
  readonly workflows: WorkflowRegistry;
  readonly stages: StageRegistry;
  /** `import.meta.url` of the program, whose `stage` command runs stages in processes of their own. */
  readonly main: string;
}

export interface PipelineOptions extends PlaceOptions {
  /** A TOML, YAML or JSON file of parameters, under the environment and `set`. */
  readonly params?: string | undefined;
  /** `path=value`, in the order given. */
  readonly set?: readonly string[] | undefined;
  /** Folder for the results. Default `runs/RUN`. */
  readonly out?: string | undefined;
  readonly executor?: string | undefined;
  /** Default 0. */
  readonly seed?: number | undefined;
  /** Run just this stage, on what earlier runs of the stages before it left in the store. */
  readonly only?: string | undefined;
  /** Say what would be done and do nothing. */
  readonly dryRun?: boolean | undefined;
  /** Print the graph in this form and do nothing: `text`, `mermaid` or `json`. */
  readonly graph?: string | undefined;
  /** Events, or the plan, as JSON on standard output. */
  readonly json?: boolean | undefined;
  /** How many stages run at a time. */
  readonly slots?: number | undefined;
  readonly gpus?: number | undefined;
  readonly memoryGiB?: number | undefined;
  /** The run ends cleanly when its stages have used so many GPU-seconds. */
  readonly budgetGpuSeconds?: number | undefined;
  /** ... or so much money, at `gpuHourPrice` for a GPU-hour. */
  readonly budgetMoney?: number | undefined;
  readonly gpuHourPrice?: number | undefined;
  /** Reuse results made by earlier versions of the code. */
  readonly anyCode?: boolean | undefined;
}

/** The executors by name. */
const EXECUTORS: Record<string, (program: Program, store: Store) => Executor> = {
  process: (program) => processExecutor({ main: program.main }),
  inline: (program, store) => inlineExecutor(program.stages, store),
};

/**
 * Plans or runs the workflow of this name. Returns the run's result, or undefined where nothing was
 * run. Ctrl-C ends the run cleanly, a second one at once.
 *
 * @throws UserError as `runGraph` does, and for an unknown workflow, executor, option or parameter
 */
export async function runPipelineCommand(
  name: string,
  options: PipelineOptions,
  program: Program,
): Promise<RunResult | undefined> {
  const workflow = await findWorkflow(name, program.workflows);
  const params = applyOverrides(
    workflow.params,
    options.params === undefined ? {} : await readParamsFile(options.params),
    [...paramsFromEnvironment(Deno.env.toObject()), ...options.set ?? []],
  );
  const whole = buildGraph(workflow, params, checkSeed(options.seed ?? 0));
  const graph = options.only === undefined ? whole : onlyNode(whole, options.only);
  return await runOrPlan(workflow, graph, options, program);
}

/**
 * Runs a stage by itself on files and folders of its user, or plans that; as `runPipelineCommand`.
 *
 * @throws UserError as `runGraph` does, and for an unknown stage, input, executor, option or parameter
 */
export async function runByHandCommand(
  name: string,
  options: Omit<PipelineOptions, "only" | "graph"> & {
    /** `NAME=PATH`; over the paths that the file of parameters names. */
    readonly input?: readonly string[] | undefined;
  },
  program: Program,
): Promise<RunResult | undefined> {
  const stage = await findStage(name, program.stages);
  const workflow = byHand(stage);
  const params = applyOverrides(
    workflow.params,
    options.params === undefined ? {} : await readParamsFile(options.params),
    options.set ?? [],
  );
  params["inputs"] = inputPaths(stage, params["inputs"], options.input ?? []);
  requirePaths(stage, params["inputs"] as InputPaths);
  const { inputs } = parseParams(workflow.params, params, `stage '${name}'`) as {
    inputs: InputPaths;
  };
  if (options.out !== undefined) keepApart(stage, inputs, options.out);
  const graph = buildGraph(workflow, params, checkSeed(options.seed ?? 0));
  return await runOrPlan(workflow, graph, options, program);
}

async function runOrPlan(
  workflow: Workflow,
  graph: Graph,
  options: PipelineOptions,
  program: Program,
): Promise<RunResult | undefined> {
  if (options.graph !== undefined) {
    const forms: Record<string, () => string> = {
      text: () => toText(graph),
      mermaid: () => toMermaid(graph),
      json: () => JSON.stringify(graphRecord(graph), null, 2) + "\n",
    };
    const form = forms[options.graph];
    if (form === undefined) throw unknownName("graph form", options.graph, Object.keys(forms));
    await print(form());
    return undefined;
  }
  if (!options.dryRun) return await drive(graph, options, program, {});
  const store = openStore(options.store ?? DEFAULT_STORE);
  return await withJournal(options, { readOnly: true }, async (journal) => {
    const plan = await planGraph(graph, { store, journal, anyCode: options.anyCode ?? false });
    const resolved = {
      workflow: workflow.name,
      seed: graph.seed,
      params: graph.params,
      stages: plan,
    };
    await print(
      options.json
        ? JSON.stringify(resolved, null, 2) + "\n"
        : planText(workflow.name, describeParams(workflow.params, graph.params), plan, graph.only),
    );
    return undefined;
  });
}

/**
 * `pipeline resume RUN`: goes on with a run that was killed, failed or cancelled, with the parameters
 * it had.
 *
 * @throws UserError as `runPipelineCommand` does, and where there is no such run
 */
export async function resumeRunCommand(
  id: string,
  options: Omit<PipelineOptions, "set" | "params" | "seed" | "only" | "dryRun" | "graph">,
  program: Program,
): Promise<RunResult> {
  const run = await withJournal(options, { readOnly: true }, (journal) => findRun(journal, id));
  const workflow = await workflowOf(run.workflow, program);
  const whole = buildGraph(workflow, run.params, run.seed);
  const graph = run.only === undefined ? whole : onlyNode(whole, run.only);
  return await drive(graph, { ...options, out: options.out ?? run.out }, program, { run: id });
}

/** Runs a graph with signals and a display. */
async function drive(
  graph: Graph,
  options: PipelineOptions,
  program: Program,
  more: { run?: string },
): Promise<RunResult> {
  const makeExecutor = EXECUTORS[options.executor ?? "process"];
  if (makeExecutor === undefined) {
    throw unknownName("executor", options.executor!, Object.keys(EXECUTORS));
  }
  const capacity = capacityOf(options);
  const budget = budgetOf(options);
  const store = openStore(options.store ?? DEFAULT_STORE);
  return await withJournal(options, {}, async (journal) => {
    const display = openDisplay(options.json ?? false);
    const signals = catchSignals(() =>
      display.note("stages are asked to stop; a second Ctrl-C ends them at once")
    );
    let known: string | undefined;
    try {
      return await runGraph(graph, {
        store,
        journal,
        executor: makeExecutor(program, store),
        ...(options.out === undefined ? {} : { out: options.out }),
        capacity,
        budget,
        anyCode: options.anyCode ?? false,
        cancel: signals.cancel,
        kill: signals.kill,
        onEvent: (event, run) => {
          known = run;
          display.onEvent(event, run);
        },
        ...more,
      });
    } catch (error) {
      throw known === undefined ? error : withWayOn(error, known);
    } finally {
      signals.release();
      display.close();
    }
  });
}

/** Finds and loads a workflow. Throws a UserError (wrong use) with the nearest right name. */
export async function findWorkflow(name: string, workflows: WorkflowRegistry): Promise<Workflow> {
  const found = Object.hasOwn(workflows, name) ? workflows[name] : undefined;
  if (found === undefined) throw unknownName("workflow", name, Object.keys(workflows));
  return typeof found === "function" ? await found() : found;
}

/** The workflow of a run: one of the program's, or a stage that was run by hand. */
async function workflowOf(name: string, { workflows, stages }: Program): Promise<Workflow> {
  const isStage = !Object.hasOwn(workflows, name) && Object.hasOwn(stages, name);
  return isStage ? byHand(await findStage(name, stages)) : await findWorkflow(name, workflows);
}

function planText(
  workflow: string,
  params: readonly string[],
  plan: Awaited<ReturnType<typeof planGraph>>,
  only: string | undefined,
): string {
  const width = longest(plan.map((stage) => stage.id));
  const words = { cached: "in the store", run: "to run", skip: "skipped", unknown: "to run" };
  const lines = plan.map((stage) => {
    const reasons = stage.reasons.length === 0 ? "" : `  ${stage.reasons.join("; ")}`;
    const mayRun = only === undefined || only === stage.id || stage.stage === IMPORT_STAGE;
    const word = words[stage.state] === "to run" && !mayRun ? "to run first" : words[stage.state];
    return `  ${stage.id.padEnd(width)}  ${word.padEnd(12)}${reasons}`.trimEnd();
  });
  const cached = plan.filter((stage) => stage.state === "cached").length;
  return [
    `workflow ${workflow}: ${plan.length} stages, ${cached} in the store`,
    ...params.map((param) => `  ${param}`),
    "",
    ...lines,
    "",
  ].join("\n");
}

function openDisplay(json: boolean): Display {
  const encoder = new TextEncoder();
  const writeTo = (stream: typeof Deno.stdout) => (text: string) => {
    const bytes = encoder.encode(text);
    for (let done = 0; done < bytes.length;) done += stream.writeSync(bytes.subarray(done));
  };
  if (json) return jsonDisplay({ write: writeTo(Deno.stdout) });
  const write = writeTo(Deno.stderr);
  if (!Deno.stderr.isTerminal()) return plainDisplay({ write });
  const size = () => {
    let size = { columns: 0, rows: 0 };
    try {
      size = Deno.consoleSize();
    } catch {
      // Not every terminal tells its size.
    }
    return { columns: size.columns || 80, rows: size.rows || 24 };
  };
  return terminalDisplay({ write, size });
}

/** An error that ended a run, with how to go on with the run. */
function withWayOn(error: unknown, run: string): unknown {
  if (!(error instanceof UserError) || error.cause instanceof LeaseLostError) return error;
  const { message, exitCode } = error;
  return new UserError(`${message}\ngo on with: pipeline resume ${run}`, {
    exitCode,
    cause: error,
  });
}

/**
 * Ctrl-C and SIGTERM ask the run to end; the second time, it ends at once.
 *
 * @param onFirst called at the first
 */
function catchSignals(
  onFirst: () => void,
): { cancel: AbortSignal; kill: AbortSignal; release: () => void } {
  const cancel = new AbortController();
  const kill = new AbortController();
  const onSignal = () => {
    if (cancel.signal.aborted) return kill.abort();
    cancel.abort();
    onFirst();
  };
  const names: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const name of names) Deno.addSignalListener(name, onSignal);
  return {
    cancel: cancel.signal,
    kill: kill.signal,
    release: () => names.forEach((name) => Deno.removeSignalListener(name, onSignal)),
  };
}

function capacityOf(options: PipelineOptions) {
  const capacity: { slots?: number; gpus?: number; memoryGiB?: number } = {};
  const { slots, gpus, memoryGiB } = options;
  if (slots !== undefined) {
    if (!Number.isInteger(slots) || slots < 1) throw wrongNumber("--slots", slots, "1 or more");
    capacity.slots = slots;
  }
  if (gpus !== undefined) {
    if (!Number.isInteger(gpus) || gpus < 0) throw wrongNumber("--gpus", gpus, "0 or more");
    capacity.gpus = gpus;
  }
  if (memoryGiB !== undefined) {
    if (!(memoryGiB > 0)) throw wrongNumber("--memory", memoryGiB, "more than 0");
    capacity.memoryGiB = memoryGiB;
  }
  return capacity;
}

function budgetOf(options: PipelineOptions): Budget {
  const { budgetGpuSeconds, budgetMoney, gpuHourPrice } = options;
  const given = { budgetGpuSeconds, budgetMoney, gpuHourPrice };
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value > 0) continue;
    const option = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw wrongNumber(option, value, "more than 0");
  }
  if (budgetMoney !== undefined && gpuHourPrice === undefined) {
    throw new UserError("--budget-money: say with --gpu-hour-price what a GPU costs an hour", {
      exitCode: 2,
    });
  }
  return {
    ...(budgetGpuSeconds === undefined ? {} : { gpuSeconds: budgetGpuSeconds }),
    ...(budgetMoney === undefined ? {} : { money: budgetMoney }),
    ...(gpuHourPrice === undefined ? {} : { gpuHourPrice }),
  };
}

function checkSeed(seed: number): number {
  if (Number.isSafeInteger(seed) && seed >= 0) return seed;
  throw wrongNumber("--seed", seed, "a whole number, 0 or more");
}

function wrongNumber(option: string, value: number, wanted: string): UserError {
  return new UserError(`${option}: expected ${wanted}, got ${value}`, { exitCode: 2 });
}
