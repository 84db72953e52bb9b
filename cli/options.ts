/** What the commands' options have in common. */
import { Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { PackedType, ParamsType } from "../lm/mod.ts";

/** @throws InvalidArgumentError where the text is no whole number, 0 or more */
export function wholeNumber(text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a whole number.");
}

/** @throws InvalidArgumentError where the text is no number, 0 or more */
export function decimal(text: string): number {
  if (/^(\d+\.?\d*|\.\d+)$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It must be a number.");
}

/** An option that may be given several times, each with one value. */
export const repeated = (value: string, values: string[] = []) => [...values, value];

/** A command with what every command takes. */
export function plainCommand(name: string, description: string) {
  return new Command(name).description(description).option("--debug", "print stack traces");
}

/** A command that reads or writes the journal of runs. */
export function command(name: string, description: string) {
  return plainCommand(name, description)
    .option(
      "--journal <place>",
      "journal of runs: a file, postgres:// or http(s)://",
      ".oreo/journal.sqlite",
    );
}

/** The option that names the artifact store. */
export const store = [
  "--store <place>",
  "artifact store: a folder or s3://BUCKET/PREFIX",
  ".oreo/store",
] as const;

/** The option that names what tensors run on. */
export const backend = [
  "--backend <name>",
  "tensors on xla, xla:cpu, xla:cuda, tensorflow, webgpu, wasm, cpu or a PJRT plugin's file " +
  "(default: OREO_BACKEND, else xla where it runs)",
] as const;

/** The options that name a language model. */
export const modelOptions = {
  model: [
    "--model <path>",
    "model: a Hugging Face folder, a .gguf file, or org/name[@revision] on the hub",
  ],
  adapter: ["--adapter <path>", "LoRA adapter as PEFT saves it, merged into the model"],
} as const;

/** What a model's weights are kept and multiplied as. */
export function dtype<const T extends string>(choices: readonly T[]) {
  const text = choices.includes("int8" as T)
    ? "weights as float32, bfloat16 (half the memory) or int8 (fastest on a CPU, rounded)"
    : "weights as float32 or bfloat16 (half the memory)";
  return new Option("--dtype <type>", text).choices(choices).default("float32" as T);
}

/** What to load weights as that will be used as `dtype`: int8 is made of what was loaded. */
export const storedType = (dtype: PackedType): ParamsType =>
  dtype === "float32" ? "float32" : "bfloat16";
