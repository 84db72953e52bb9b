/**
 * A stage by hand: the workflow of that one stage, on files and folders of its user. So it is planned,
 * journaled, killed and resumed, and its results are put in place, like any run.
 */
import { join, relative, resolve, sep } from "node:path";
import { z } from "zod";
import { unknownName, UserError } from "../errors.ts";
import { type InputSpec, kindOf, type Stage } from "./stage.ts";
import { type ArtifactRef, defineWorkflow, type Workflow } from "./workflow.ts";

/** What a user gave by input name: a path, or several where the stage takes a list. */
export type InputPaths = Record<string, string | string[]>;

/**
 * The workflow of one stage, by the stage's name. Its parameters are the stage's and, under `inputs`,
 * the paths that it reads; its results are the stage's outputs, by name. The run's seed is the stage's.
 */
export function byHand(stage: Stage): Workflow {
  const specs = Object.entries(stage.inputs);
  const params = stage.params.extend({
    inputs: z.object(Object.fromEntries(specs.map(([name, spec]) => [name, pathOf(spec)])))
      .prefault({}),
  });
  return defineWorkflow({
    name: stage.name,
    description: `the stage '${stage.name}' by itself`,
    params,
    build(w, given) {
      const { inputs: paths, ...params } = given as { inputs: InputPaths };
      const inputs: Record<string, ArtifactRef | ArtifactRef[]> = {};
      for (const [name, spec] of specs) {
        const path = paths[name];
        if (path === undefined) continue;
        const take = (id: string, path: string): ArtifactRef => w.import(id, kindOf(spec), path);
        inputs[name] = typeof path === "string"
          ? take(`inputs.${name}`, path)
          : path.map((one, i) => take(`inputs.${name}[${i}]`, one));
      }
      const node = w.stage(stage.name, stage, { params, inputs, seed: w.seed } as never);
      for (const [name, output] of Object.entries<ArtifactRef>(node.outputs)) {
        w.output(name, output);
      }
    },
  });
}

function pathOf(spec: InputSpec): z.ZodType {
  const path = z.string().min(1, "expected the path of a file or folder");
  if ("list" in spec) return z.array(path).describe(`files or folders: ${spec.list.kind}`);
  const described = path.describe(`file or folder: ${kindOf(spec).kind}`);
  return "optional" in spec ? described.optional() : described;
}

/**
 * Lays `NAME=PATH` texts over the paths that a file of parameters names. Where the stage takes a list,
 * each text adds one to it.
 *
 * @throws UserError (wrong use) for a text without `=`, an input that the stage has not, one given twice
 */
export function inputPaths(
  stage: Stage,
  fromFile: unknown,
  texts: readonly string[],
): Record<string, unknown> {
  const given: InputPaths = {};
  for (const text of texts) {
    const equals = text.indexOf("=");
    const [name, path] = [text.slice(0, equals).trim(), text.slice(equals + 1)];
    if (equals <= 0 || path === "") {
      throw new UserError(
        `--input ${text}: expected NAME=PATH, for example --input ${example(stage)}`,
        {
          exitCode: 2,
        },
      );
    }
    const spec = Object.hasOwn(stage.inputs, name) ? stage.inputs[name] : undefined;
    if (spec === undefined) {
      throw unknownName(`input of stage '${stage.name}'`, name, Object.keys(stage.inputs));
    }
    if ("list" in spec) given[name] = [...given[name] ?? [], path];
    else if (given[name] === undefined) given[name] = path;
    else {
      throw new UserError(
        `--input ${text}: stage '${stage.name}' takes one '${name}', and ${
          given[name]
        } was given already`,
        { exitCode: 2 },
      );
    }
  }
  if (typeof fromFile === "object" && fromFile !== null) return { ...fromFile, ...given };
  if (fromFile === undefined) return given;
  throw new UserError(
    `'inputs' of stage '${stage.name}': expected names with paths, got ${
      JSON.stringify(fromFile)
    }; ` +
      `write inputs: { ${Object.keys(stage.inputs)[0] ?? "name"}: PATH }`,
    { exitCode: 2 },
  );
}

/** @throws UserError (wrong use) that names every input that is needed and was not given */
export function requirePaths(stage: Stage, paths: Readonly<Record<string, unknown>>): void {
  const missing = Object.entries(stage.inputs)
    .filter(([name, spec]) => !("optional" in spec) && paths[name] === undefined)
    .map(([name, spec]) =>
      `stage '${stage.name}' needs input '${name}' (${kindOf(spec).kind}): ` +
      `give its file or folder with --input ${name}=PATH`
    );
  if (missing.length > 0) throw new UserError(missing.join("\n"), { exitCode: 2 });
}

/**
 * Checks that results do not come where inputs are: they would replace them, and the same command
 * would then do other work.
 *
 * @throws UserError (wrong use) that names both paths
 */
export function keepApart(stage: Stage, paths: InputPaths, out: string): void {
  for (const [name, given] of Object.entries(paths)) {
    for (const path of [given].flat()) {
      for (const output of Object.keys(stage.outputs)) {
        const target = join(out, output);
        if (!within(path, target) && !within(target, path)) continue;
        throw new UserError(
          `--out ${out}: the output '${output}' would be written to ${target}, where the input ` +
            `'${name}' (${path}) is; choose another folder`,
          { exitCode: 2 },
        );
      }
    }
  }
}

/** Whether `path` is `folder` or lies in it. */
function within(path: string, folder: string): boolean {
  const way = relative(resolve(folder), resolve(path));
  return way !== ".." && !way.startsWith(`..${sep}`);
}

function example(stage: Stage): string {
  const [name] = Object.keys(stage.inputs);
  return name === undefined ? "policy=models/sft" : `${name}=PATH`;
}

/** A line a stage for `--help`: `train: policy, balanced [, all] -> policy, value, curves`. */
export function describeInterface({ name, inputs, outputs }: Stage): string {
  const text = (spec: InputSpec, input: string) =>
    "optional" in spec ? `[${input}]` : "list" in spec ? `${input}...` : input;
  const taken = Object.entries(inputs).map(([input, spec]) => text(spec, input));
  return `${name}: ${taken.join(", ")} -> ${Object.keys(outputs).join(", ")}`;
}
