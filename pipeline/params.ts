/**
 * Parameters at the command line's and the programmer's boundary: checked by their zod schema, with
 * errors that name the path, the value found and, for a slip of the hand, the right name.
 */
import { z } from "zod";
import { nearest, UserError } from "../errors.ts";
import type { Json } from "./events.ts";

/** The part of JSON Schema that zod writes and this module reads. */
interface Shape {
  type?: string | string[];
  properties?: Record<string, Shape>;
  required?: string[];
  additionalProperties?: boolean | Shape;
  items?: Shape | boolean;
  prefixItems?: Shape[];
  anyOf?: Shape[];
  oneOf?: Shape[];
  allOf?: Shape[];
  enum?: Json[];
  const?: Json;
  default?: Json;
  description?: string;
  $ref?: string;
  $defs?: Record<string, Shape>;
}

const shapes = new WeakMap<z.ZodType, Shape>();

function shapeOf(schema: z.ZodType): Shape {
  let shape = shapes.get(schema);
  if (shape === undefined) {
    shape = z.toJSONSchema(schema, {
      io: "input",
      unrepresentable: "any",
      reused: "inline",
    }) as Shape;
    shapes.set(schema, shape);
  }
  return shape;
}

/**
 * The parameters with defaults filled in.
 *
 * @param where what they belong to, for messages: `stage 'train'`
 * @throws UserError naming each wrong or unknown parameter
 */
export function parseParams<Schema extends z.ZodType>(
  schema: Schema,
  params: unknown,
  where: string,
): z.output<Schema> {
  const result = schema.safeParse(params);
  const problems = result.success
    ? []
    : result.error.issues.map((issue) => issueText(issue, params));
  problems.push(...unknownNames(shapeOf(schema), params, ""));
  if (problems.length > 0) {
    throw new UserError([...new Set(problems)].map((p) => `${where}: ${p}`).join("\n"), {
      exitCode: 2,
    });
  }
  return result.data as z.output<Schema>;
}

function issueText(issue: z.core.$ZodIssue, params: unknown): string {
  const path = issue.path.map(String).join(".");
  let value = params;
  for (const key of issue.path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  const message = issue.message.replace(/^Invalid input: /, "");
  if (value === undefined) {
    return `parameter '${path}' is missing: give it with --set ${path}=...`;
  }
  return `parameter '${path}': ${message}, got ${brief(value)}`;
}

function unknownNames(shape: Shape, value: unknown, path: string): string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  const options = alternatives(shape);
  const closed = options.every((option) => option.properties !== undefined && !isOpen(option));
  const known = options.flatMap((option) => Object.keys(option.properties ?? {}));
  const problems: string[] = [];
  for (const [name, inner] of Object.entries(value)) {
    const shapes = options.flatMap((option) => option.properties?.[name] ?? []);
    if (shapes.length === 0) {
      if (closed && options.length > 0) problems.push(unknownText(path, name, known));
      continue;
    }
    for (const one of shapes) problems.push(...unknownNames(one, inner, `${path}${name}.`));
  }
  return problems;
}

function unknownText(path: string, name: string, known: string[]): string {
  const near = nearest(name, known);
  if (near !== undefined) {
    return `unknown parameter '${path}${name}': did you mean '${path}${near}'?`;
  }
  const list = known.length === 0 ? "there are none" : `known: ${known.join(", ")}`;
  return `unknown parameter '${path}${name}'; ${list}`;
}

/** The forms a value may take, unions laid flat. */
function alternatives(shape: Shape): Shape[] {
  const options = shape.anyOf ?? shape.oneOf;
  if (options !== undefined) return options.flatMap(alternatives);
  if (shape.allOf !== undefined && shape.type === undefined) {
    return shape.allOf.flatMap(alternatives);
  }
  return [shape];
}

function isOpen(shape: Shape): boolean {
  return typeof shape.additionalProperties === "object" || shape.additionalProperties === true;
}

/**
 * Lays `path=value` texts over parameters. A value is read as the schema at its path asks: numbers,
 * true and false, JSON or a comma list for arrays, JSON for objects, anything else as it stands.
 *
 * @throws UserError (wrong use) for a text without `=`, an unknown path, or a value that cannot be read
 */
export function applyOverrides(
  schema: z.ZodType,
  params: Readonly<Record<string, unknown>>,
  overrides: readonly string[],
): Record<string, unknown> {
  const result = structuredClone(params) as Record<string, unknown>;
  for (const text of overrides) {
    const equals = text.indexOf("=");
    if (equals <= 0) {
      throw wrongSet(text, "expected path=value, for example --set train.steps=100");
    }
    const path = text.slice(0, equals).trim().split(".");
    const value = text.slice(equals + 1);
    let options = alternatives(shapeOf(schema));
    let target = result;
    path.forEach((name, i) => {
      const before = path.slice(0, i).map((part) => `${part}.`).join("");
      if (name === "") throw wrongSet(text, "the path has an empty name");
      const known = options.flatMap((option) => Object.keys(option.properties ?? {}));
      const next = options.flatMap((option) => {
        const inner = option.properties?.[name];
        if (inner !== undefined) return alternatives(inner);
        const rest = option.additionalProperties;
        if (option.properties === undefined || isOpen(option)) {
          return typeof rest === "object" ? alternatives(rest) : rest === true ? [{}] : [];
        }
        return [];
      });
      if (next.length === 0) {
        if (known.length === 0 && before !== "") {
          throw wrongSet(text, `'${before.slice(0, -1)}' holds a value, not names`);
        }
        throw wrongSet(text, unknownText(before, name, known));
      }
      options = next;
      if (i < path.length - 1) {
        const inner = target[name];
        const isObject = typeof inner === "object" && inner !== null && !Array.isArray(inner);
        target = (target[name] = isObject ? inner : {}) as Record<string, unknown>;
      } else {
        target[name] = readValue(value, options, text);
      }
    });
  }
  return result;
}

function readValue(value: string, options: readonly Shape[], text: string): unknown {
  const types = new Set(options.flatMap((option) => option.type ?? typesOf(option)));
  const literals = options.flatMap((option) =>
    option.enum ?? (option.const === undefined ? [] : [option.const])
  );
  const exact = literals.find((literal) => String(literal) === value);
  if (exact !== undefined) return exact;
  if (types.has("null") && value === "null") return null;
  if (types.has("boolean") && (value === "true" || value === "false")) return value === "true";
  if ((types.has("number") || types.has("integer")) && isNumber(value)) return Number(value);
  if (types.has("array")) {
    const items = options.flatMap((option) =>
      typeof option.items === "object" ? alternatives(option.items) : []
    );
    if (value.trimStart().startsWith("[")) return readJson(value, text);
    if (!types.has("string")) {
      return value === ""
        ? []
        : value.split(",").map((part) => readValue(part.trim(), items, text));
    }
  }
  if (types.has("object") && value.trimStart().startsWith("{")) return readJson(value, text);
  if (types.has("string") || types.size === 0) return value;
  const wanted = literals.length > 0
    ? literals.map(String).join(" | ")
    : [...types].map((type) => type === "boolean" ? "true or false" : `a value of type ${type}`)
      .join(" or ");
  throw wrongSet(text, `expected ${wanted}, got '${value}'`);
}

function typesOf(shape: Shape): string[] {
  const literals = shape.enum ?? (shape.const === undefined ? [] : [shape.const]);
  return literals.map((literal) => typeof literal);
}

function isNumber(value: string): boolean {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value);
}

function readJson(value: string, text: string): unknown {
  try {
    return JSON.parse(value);
  } catch (cause) {
    throw wrongSet(text, `the value is not JSON (${(cause as Error).message})`);
  }
}

function wrongSet(text: string, reason: string): UserError {
  return new UserError(`--set ${text}: ${reason}`, { exitCode: 2 });
}

function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Every parameter as `path = value`, with what it means where the schema says so: for `--dry-run`. */
export function describeParams(schema: z.ZodType, params: unknown): string[] {
  const lines: string[] = [];
  const walk = (shape: Shape | undefined, value: unknown, path: string) => {
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    if (isObject && Object.keys(value).length > 0) {
      for (const [name, inner] of Object.entries(value)) {
        const options = shape === undefined ? [] : alternatives(shape);
        const next = options.map((option) => option.properties?.[name]).find((s) =>
          s !== undefined
        );
        walk(next, inner, path === "" ? name : `${path}.${name}`);
      }
    } else {
      const note = shape?.description === undefined ? "" : `  # ${shape.description}`;
      lines.push(`${path} = ${JSON.stringify(value)}${note}`);
    }
  };
  walk(shapeOf(schema), params, "");
  return lines;
}

/** Every parameter that a schema knows, given or not: path, what it takes, default, meaning. */
export function listParams(schema: z.ZodType): string[] {
  const rows: [path: string, takes: string, note: string][] = [];
  const walk = (shape: Shape, path: string, needed: boolean) => {
    const groups = alternatives(shape).filter((option) => option.properties !== undefined);
    if (groups.length === 0) {
      const fallback = shape.default === undefined
        ? needed ? ", needed" : ""
        : ` = ${defaultText(shape.default)}`;
      rows.push([path, takes(shape) + fallback, shape.description ?? ""]);
      return;
    }
    // A group that may be left out says so; its members' defaults count where one of them is given.
    if (shape.description !== undefined) rows.push([path, "", shape.description]);
    for (const { properties, required } of groups) {
      for (const [name, inner] of Object.entries(properties!)) {
        walk(inner, path === "" ? name : `${path}.${name}`, required?.includes(name) ?? false);
      }
    }
  };
  walk(shapeOf(schema), "", false);
  const width = (column: 0 | 1) => Math.max(0, ...rows.map((row) => row[column].length));
  const [paths, values] = [width(0), width(1)];
  return rows.map(([path, value, note]) =>
    `${path.padEnd(paths)}  ${value.padEnd(values)}  ${note}`.trimEnd()
  );
}

function defaultText(value: Json): string {
  const isSmall = typeof value === "number" && value !== 0 && Math.abs(value) < 1e-3;
  return isSmall ? value.toExponential() : JSON.stringify(value);
}

function takes(shape: Shape): string {
  const words = alternatives(shape).map((option) => {
    const literals = option.enum ?? (option.const === undefined ? undefined : [option.const]);
    if (literals !== undefined) return literals.map(String).join(" | ");
    const type = [option.type ?? "any"].flat().join(" | ");
    const items = option.items;
    return type === "array" && typeof items === "object" ? `${takes(items)}, ...` : type;
  });
  return [...new Set(words)].join(" | ");
}
