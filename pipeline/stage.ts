/**
 * How a stage is declared: one kind of work with typed parameters and artifacts, which needs nothing
 * but its inputs, and whose outputs depend on nothing but its inputs, parameters and seed.
 */
import type { z } from "zod";
import type { Values } from "./events.ts";

/** What an artifact (a folder of files) holds. Kinds differ by name and version, in types too. */
export interface ArtifactKind<Name extends string = string, Version extends number = number> {
  readonly kind: Name;
  /** Raise it when the files' form changes. */
  readonly version: Version;
  /** Where an artifact of the kind is one file, that file's name, whatever its user calls it. */
  readonly file?: string;
}

/** Declares a kind of artifact; `file` where it is always one file of that name. */
export function artifactKind<const Name extends string, const Version extends number>(
  kind: Name,
  version: Version,
  file?: string,
): ArtifactKind<Name, Version> {
  return { kind, version, ...(file === undefined ? {} : { file }) };
}

/** An input that may be left out. */
export interface OptionalInput<Kind extends ArtifactKind = ArtifactKind> {
  readonly optional: Kind;
}

/** An input that takes any number of artifacts, in order: the fan-in of shards. */
export interface ListInput<Kind extends ArtifactKind = ArtifactKind> {
  readonly list: Kind;
}

/** Declares an input that may be left out. */
export function optional<Kind extends ArtifactKind>(kind: Kind): OptionalInput<Kind> {
  return { optional: kind };
}

/** Declares an input that takes any number of artifacts, in order. */
export function list<Kind extends ArtifactKind>(kind: Kind): ListInput<Kind> {
  return { list: kind };
}

export type InputSpec = ArtifactKind | OptionalInput | ListInput;
export type InputSpecs = Readonly<Record<string, InputSpec>>;
export type OutputSpecs = Readonly<Record<string, ArtifactKind>>;

/** An artifact as a running stage sees it: a folder it must not write to. */
export interface InputArtifact {
  readonly path: string;
  /** The hash of the artifact's content. */
  readonly id: string;
}

export type InputArtifacts<Inputs extends InputSpecs> = {
  readonly [Name in keyof Inputs]: Inputs[Name] extends OptionalInput ? InputArtifact | undefined
    : Inputs[Name] extends ListInput ? readonly InputArtifact[]
    : InputArtifact;
};

/** What a stage needs of a machine. */
export interface Resources {
  /** Default 0. */
  readonly gpus?: number;
  /** Default 0: not counted. */
  readonly memoryGiB?: number;
  /** The stage is stopped, and tried again from its scratch folder, after so long. Default: no limit. */
  readonly timeLimitSeconds?: number;
}

/** Everything a stage is given. */
export interface StageContext<
  Params = unknown,
  Inputs extends InputSpecs = InputSpecs,
  Outputs extends OutputSpecs = OutputSpecs,
> {
  readonly params: Params;
  readonly inputs: InputArtifacts<Inputs>;
  /** Empty folders to fill. They are published when `run` returns, and dropped when it throws. */
  readonly outputs: { readonly [Name in keyof Outputs]: { readonly path: string } };
  /**
   * A folder that outlives a kill: what one attempt leaves, the next attempt of the same work finds.
   * It is gone once the stage has succeeded. Write files under a temporary name and rename them.
   */
  readonly scratch: string;
  /** A non-negative 31-bit integer, made from the run's seed and the node's name. */
  readonly seed: number;
  /** Aborted when the stage should stop: the run was cancelled, or the time limit is over. */
  readonly signal: AbortSignal;
  /** Adds a line to the stage's log. */
  log(text: string, level?: "debug" | "info" | "warn" | "error"): void;
  /** Says how far the stage is: `done` of `total` units ("steps" unless named). */
  progress(done: number, total: number, unit?: string): void;
  /** Adds a point at `step` to the curve of each name. NaN and infinities are kept as gaps. */
  metric(step: number, values: Readonly<Record<string, number>>): void;
}

/** A declared stage. */
export interface Stage<
  Params extends z.ZodObject = z.ZodObject,
  Inputs extends InputSpecs = InputSpecs,
  Outputs extends OutputSpecs = OutputSpecs,
> {
  readonly name: string;
  /** Raise it when the same inputs give other outputs; older results are then not reused. */
  readonly version: number;
  readonly params: Params;
  readonly inputs: Inputs;
  readonly outputs: Outputs;
  readonly resources?: Resources;
  /**
   * Whether a process that has done a job of this stage may do the next one, which saves its start.
   * Only for stages that leave nothing behind in memory. Default: a process for each job.
   */
  readonly sharesProcess?: boolean;
  /**
   * `import.meta.url` of the module that defines the stage. Where given, a change in it or in any
   * file of this project that it imports makes earlier results stale, as `version` does by hand.
   */
  readonly module?: string;
  /** Does the work. Returns small results, kept in the manifest and the journal. */
  // Declared as a method so that a stage of known types is also a `Stage` of any.
  run(context: StageContext<z.output<Params>, Inputs, Outputs>): Promise<Values | void>;
}

/** Declares a stage; the types of parameters, inputs and outputs flow into `run`. */
export function defineStage<
  Params extends z.ZodObject,
  const Inputs extends InputSpecs,
  const Outputs extends OutputSpecs,
>(stage: Stage<Params, Inputs, Outputs>): Stage<Params, Inputs, Outputs> {
  return stage;
}

/** What an input takes, whichever way it was declared. */
export function kindOf(spec: InputSpec): ArtifactKind {
  return "optional" in spec ? spec.optional : "list" in spec ? spec.list : spec;
}

/** A failure that may pass when the stage is tried again: a lost node, a server that is busy. */
export class RetryableError extends Error {
  override name = "RetryableError";
}
