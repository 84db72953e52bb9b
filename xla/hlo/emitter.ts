/**
 * Writes StableHLO text: SSA names, nested regions, constants, function arguments, the module.
 *
 * Names are sequential, so the same calls always print the same text: the text can be hashed, cached
 * and compared with golden files. Ops live in the subclasses (`pointwise.ts`, `movement.ts`,
 * `builder.ts`); use `Builder`.
 */
import {
  type DType,
  HloError,
  isFloat,
  scalarText,
  sizeOf,
  tensor,
  type TensorType,
  typesText,
  typeText,
  type Value,
} from "./types.ts";

/** Attribute name to MLIR attribute text, as in `{ "tf.aliasing_output": "0 : i32" }`. */
export type Attributes = Readonly<Record<string, string>>;

/** Element data a dense constant is made from. */
export type ConstantData =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Uint8Array
  | Int8Array
  | readonly number[];

interface Argument {
  readonly value: Value;
  readonly attributes: Map<string, string>;
}

export class Emitter {
  #lines: string[] = [];
  #indent = "    ";
  #next = 0;
  readonly #arguments: Argument[] = [];
  readonly #moduleAttributes = new Map<string, string>();
  readonly #declarations: string[] = [];

  /** Adds an argument to the function; allowed at any time, the signature is printed last. */
  argument(type: TensorType, attributes: Attributes = {}): Value {
    const value = { id: `%arg${this.#arguments.length}`, type };
    this.#arguments.push({ value, attributes: new Map(Object.entries(attributes)) });
    return value;
  }

  /** Types of the arguments added so far, in order. */
  get argumentTypes(): TensorType[] {
    return this.#arguments.map((argument) => argument.value.type);
  }

  /** Sets an attribute of argument `index`, such as `tf.aliasing_output`, `jax.buffer_donor`, `sdy.sharding`. */
  setArgumentAttribute(index: number, name: string, text: string): void {
    const argument = this.#arguments[index];
    if (argument === undefined) {
      throw new HloError(
        `attribute ${name}: no argument ${index}, there are ${this.#arguments.length}`,
      );
    }
    argument.attributes.set(name, text);
  }

  setModuleAttribute(name: string, text: string): void {
    this.#moduleAttributes.set(name, text);
  }

  /** Adds a line before the function, such as `sdy.mesh @mesh = <["data"=4]>`. */
  declare(text: string): void {
    this.#declarations.push(text);
  }

  /** The module's text; its one function `main` returns `results`. Call once, last. */
  module(
    results: readonly Value[],
    options: { name?: string; resultAttributes?: readonly Attributes[] } = {},
  ): string {
    const parameters = this.#arguments
      .map(({ value, attributes }) =>
        `${value.id}: ${typeText(value.type)}${dictionary(attributes, " ")}`
      )
      .join(", ");
    const returned = results
      .map((value, i) =>
        typeText(value.type) + dictionary(Object.entries(options.resultAttributes?.[i] ?? {}), " ")
      )
      .join(", ");
    const name = (options.name ?? "main").replace(/\W/g, "_");
    const attributes = this.#moduleAttributes.size === 0
      ? ""
      : ` attributes${dictionary(this.#moduleAttributes, " ")}`;
    return [
      `module @${name}${attributes} {`,
      ...this.#declarations.map((text) => `  ${text}`),
      `  func.func public @main(${parameters}) -> (${returned}) {`,
      ...this.#lines,
      `    return${
        results.length === 0
          ? ""
          : ` ${operandsText(results)} : ${results.map((v) => typeText(v.type)).join(", ")}`
      }`,
      `  }`,
      `}`,
      "",
    ].join("\n");
  }

  /** `%n = <text> : <types>`: an op in its short form; `text` starts with the op's name. */
  protected short(text: string, types: string, result: TensorType): Value {
    const id = `%${this.#next++}`;
    this.#lines.push(`${this.#indent}${id} = ${text} : ${types}`);
    return { id, type: result };
  }

  /** An op in its short form with several results. */
  protected multiple(text: string, types: string, results: readonly TensorType[]): Value[] {
    const id = `%${this.#next++}`;
    const name = results.length === 1 ? id : `${id}:${results.length}`;
    this.#lines.push(`${this.#indent}${name} = ${text} : ${types}`);
    return results.map((type, i) => ({ id: results.length === 1 ? id : `${id}#${i}`, type }));
  }

  /** An op in MLIR's generic form: properties in `<{}>`, regions made by `region`. */
  protected generic(
    name: string,
    operands: readonly Value[],
    results: readonly TensorType[],
    options: { properties?: Attributes; regions?: readonly string[] } = {},
  ): Value[] {
    const id = `%${this.#next++}`;
    const properties = Object.entries(options.properties ?? {});
    const text = [
      results.length === 1 ? `${id} = ` : `${id}:${results.length} = `,
      `"${name}"(${operandsText(operands)})`,
      properties.length === 0 ? "" : ` <${dictionary(properties)}>`,
      options.regions === undefined ? "" : ` (${options.regions.join(", ")})`,
      ` : ${typesText(operands.map((v) => v.type))} -> ${typesText(results)}`,
    ];
    this.#lines.push(this.#indent + text.join(""));
    return results.map((type, i) => ({ id: results.length === 1 ? id : `${id}#${i}`, type }));
  }

  /**
   * Runs `body` with every op going into a new nested block, and returns the block's text with the
   * values `body` returned as its results. Values from outside may be used inside, not the reverse.
   */
  protected region(
    types: readonly TensorType[],
    body: (...args: Value[]) => readonly Value[],
  ): { text: string; results: readonly Value[] } {
    const outerLines = this.#lines;
    const outerIndent = this.#indent;
    const lines: string[] = [];
    this.#lines = lines;
    this.#indent = outerIndent + "  ";
    try {
      const args = types.map((type): Value => ({ id: `%${this.#next++}`, type }));
      const results = body(...args);
      const header = args.length === 0
        ? ""
        : `${outerIndent}^bb0(${args.map((v) => `${v.id}: ${typeText(v.type)}`).join(", ")}):\n`;
      const end = `${this.#indent}stablehlo.return ${operandsText(results)} : ${
        results.map((v) => typeText(v.type)).join(", ")
      }`;
      return { text: `{\n${header}${[...lines, end].join("\n")}\n${outerIndent}}`, results };
    } finally {
      this.#lines = outerLines;
      this.#indent = outerIndent;
    }
  }

  /** The same number in every element. */
  splat(value: number, type: TensorType): Value {
    const scalar = isFloat(type.dtype) ? Math.fround(value) : value;
    return this.short(
      `stablehlo.constant dense<${scalarText(type.dtype === "f64" ? value : scalar, type.dtype)}>`,
      typeText(type),
      type,
    );
  }

  /** A rank-0 constant. */
  scalar(value: number, dtype: DType): Value {
    return this.splat(value, tensor([], dtype));
  }

  /**
   * A constant from element data in row-major order (for `c64`: real and imaginary parts interleaved).
   * All-equal data print as one number, all else as raw bytes. Large data belong in an argument.
   */
  constant(data: ConstantData, type: TensorType): Value {
    const count = sizeOf(type.shape) * (type.dtype === "c64" ? 2 : 1);
    if (data.length !== count) {
      throw new HloError(
        `constant: ${data.length} elements given for ${typeText(type)}, which has ${count}`,
      );
    }
    const first = data[0];
    if (first === undefined) return this.splat(0, type);
    if (type.dtype !== "c64" && allEqual(data, first)) {
      return this.splat(first, type);
    }
    if (type.dtype === "i1" || type.dtype === "bf16") {
      // Raw bytes of these two are not portable: bools may be packed, and JavaScript has no bf16 array.
      const stored = type.dtype === "i1" ? "i8" : "f32";
      const wide = this.constant(data, tensor(type.shape, stored));
      return this.short(
        "stablehlo.convert " + wide.id,
        `${typesText([wide.type])} -> ${typeText(type)}`,
        type,
      );
    }
    return this.short(
      `stablehlo.constant dense<"0x${hex(bytesOf(data, type.dtype))}">`,
      typeText(type),
      type,
    );
  }
}

/** `%0, %1`. */
export function operandsText(values: readonly Value[]): string {
  return values.map((value) => value.id).join(", ");
}

/** `array<i64: 1, 2>`. */
export function i64Array(values: readonly number[]): string {
  return values.length === 0 ? "array<i64>" : `array<i64: ${values.join(", ")}>`;
}

function dictionary(entries: Iterable<readonly [string, string]>, before = ""): string {
  const list = [...entries];
  return list.length === 0
    ? ""
    : `${before}{${list.map(([name, text]) => `${name} = ${text}`).join(", ")}}`;
}

const ARRAYS = {
  f32: Float32Array,
  c64: Float32Array,
  f64: Float64Array,
  i8: Int8Array,
  i32: Int32Array,
  ui8: Uint8Array,
  ui32: Uint32Array,
} as const;

function bytesOf(data: ConstantData, dtype: DType): Uint8Array {
  const ArrayType = ARRAYS[dtype as keyof typeof ARRAYS];
  if (ArrayType === undefined) throw new HloError(`constant: no dense constants of type ${dtype}`);
  const array = data instanceof ArrayType ? data : new ArrayType(data);
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function allEqual(data: ConstantData, value: number): boolean {
  for (const x of data) if (!Object.is(x, value)) return false;
  return true;
}

const HEX = Array.from(
  { length: 256 },
  (_, byte) => byte.toString(16).padStart(2, "0").toUpperCase(),
);

function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte]!;
  return text;
}
