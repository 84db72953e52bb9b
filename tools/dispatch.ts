/**
 * What iterate.yml is asked to run, checked before any machine is hired. The request comes from a form
 * or from an event that any holder of a token can send, and ends up on a command line: so only words
 * without spaces, quotes or patterns pass, and the graph is built and checked with them.
 *
 * Run as a program it reads WORKFLOW, SETS, ITERATIONS and GPU_RUNNER, and appends the job's outputs
 * to the file GITHUB_OUTPUT: `workflow`, `arguments`, `stages` (JSON list, in order) and `runner`.
 */
import { appendFileSync } from "node:fs";
import { unknownName, UserError } from "../errors.ts";
import { applyOverrides, buildGraph, type Workflow } from "../pipeline/mod.ts";

export interface DispatchRequest {
  readonly workflow: string;
  /** `path=value` words, separated by white space. */
  readonly sets: string;
  /** A whole number from 1 to 100, or empty. */
  readonly iterations: string;
  /** The label of a GPU runner, or empty. */
  readonly gpuRunner: string;
}

export interface DispatchPlan {
  readonly workflow: string;
  /** For the command line of `deno task pipeline`. */
  readonly arguments: readonly string[];
  /** The stages that a job each runs, in the order of the graph. */
  readonly stages: readonly string[];
  /** The label of the machine that they run on. */
  readonly runner: string;
}

/** GitHub starts at most so many jobs from one matrix. */
const mostStages = 256;

const wrong = (message: string) => new UserError(message, { exitCode: 2 });

/** @throws {UserError} (wrong use) that names what cannot be run and why */
export function planDispatch(
  workflows: readonly Workflow[],
  request: DispatchRequest,
): DispatchPlan {
  const workflow = workflows.find(({ name }) => name === request.workflow);
  if (workflow === undefined) {
    throw unknownName("workflow", request.workflow, workflows.map(({ name }) => name));
  }
  const sets = request.sets.split(/\s+/).filter((word) => word !== "");
  const unsafe = sets.find((word) => !/^[A-Za-z][\w.]*=[\w.,:/@+-]*$/.test(word));
  if (unsafe !== undefined) {
    throw wrong(`sets: '${unsafe}' is not path=value made of letters, digits and . , : / @ + - _`);
  }
  if (request.iterations !== "") {
    if (!/^[1-9]\d?$|^100$/.test(request.iterations)) {
      throw wrong(`iterations: '${request.iterations}' is not a whole number from 1 to 100`);
    }
    sets.push(`iterations=${request.iterations}`);
  }
  const graph = buildGraph(workflow, applyOverrides(workflow.params, {}, sets), 0);
  const stages = graph.nodes.filter((node) => node.importPath === undefined).map(({ id }) => id);
  if (stages.length > mostStages) {
    throw wrong(`${stages.length} stages are more than the ${mostStages} jobs that GitHub starts`);
  }
  if (request.gpuRunner === "" && workflow.name !== "demo") {
    throw wrong(
      `workflow '${workflow.name}' needs a GPU: set the repository variable OREO_GPU_RUNNER to the ` +
        "label of a runner that has one (only 'demo' runs on a CPU)",
    );
  }
  return {
    workflow: workflow.name,
    arguments: sets.flatMap((set) => ["--set", set]),
    stages,
    runner: request.gpuRunner === "" ? "ubuntu-24.04" : request.gpuRunner,
  };
}

async function main(): Promise<void> {
  const variable = (name: string) => Deno.env.get(name)?.trim() ?? "";
  const { workflows } = await import("../workflows/mod.ts");
  const plan = planDispatch(Object.values(workflows), {
    workflow: variable("WORKFLOW"),
    sets: variable("SETS"),
    iterations: variable("ITERATIONS"),
    gpuRunner: variable("GPU_RUNNER"),
  });
  const lines = [
    `workflow=${plan.workflow}`,
    `arguments=${plan.arguments.join(" ")}`,
    `stages=${JSON.stringify(plan.stages)}`,
    `runner=${plan.runner}`,
  ];
  console.log(lines.join("\n"));
  const outputs = variable("GITHUB_OUTPUT");
  if (outputs !== "") appendFileSync(outputs, lines.join("\n") + "\n");
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`iterate: ${error.message}`);
    Deno.exit(error.exitCode);
  }
}
