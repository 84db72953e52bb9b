/** Other defaults for a schema that someone else wrote, for all cases or by case. */
import { z } from "zod";

/** Defaults for some fields of a schema, of nested objects too. */
export type Defaults<Input> = {
  [Name in keyof Input]?: NonNullable<Input[Name]> extends readonly unknown[] ? Input[Name]
    : NonNullable<Input[Name]> extends Record<string, unknown> ? Defaults<NonNullable<Input[Name]>>
    : Input[Name];
};

/** The same object schema with `defaults` in place of its own, field by field, in nested objects too. */
export function withDefaults<Schema extends z.ZodObject>(
  schema: Schema,
  defaults: Defaults<z.input<Schema>> = {},
): Schema {
  return changed(schema, defaults, (field, value) => field.prefault(value as never));
}

/**
 * The same object schema with defaults that depend on what was given: `choose` sees the parameters,
 * among which those that any of the `cases` names may be missing, and says which case it is.
 */
export function withDefaultsByCase<Schema extends z.ZodObject, Name extends string>(
  schema: Schema,
  cases: Readonly<Record<Name, Defaults<z.input<Schema>>>>,
  choose: (params: z.output<Schema>) => Name,
): Schema {
  const filled = Object.fromEntries(
    Object.entries<Defaults<z.input<Schema>>>(cases)
      .map(([name, defaults]) => [name, withDefaults(schema, defaults)]),
  ) as Record<Name, Schema>;
  const open = Object.values<Defaults<z.input<Schema>>>(cases).reduce<Schema>(
    (schema, defaults) => changed(schema, defaults, (field) => field.optional()),
    schema,
  );
  return open.overwrite((params) => filled[choose(params)].parse(params) as z.output<Schema>);
}

/** Replaces the fields that `defaults` names by what `change` makes of them without their own. */
function changed<Schema extends z.ZodObject>(
  schema: Schema,
  defaults: Readonly<Record<string, unknown>>,
  change: (field: z.ZodType, value: unknown) => z.ZodType,
): Schema {
  const fields = Object.entries(defaults).map(([name, value]) => {
    const field = schema.shape[name] as z.ZodType;
    const bare = withoutDefault(field);
    const nested = bare instanceof z.ZodObject && isRecord(value);
    const next = nested ? changed(bare, value, change).prefault({}) : change(bare, value);
    return [name, field.description === undefined ? next : next.describe(field.description)];
  });
  return schema.extend(Object.fromEntries(fields)) as unknown as Schema;
}

function withoutDefault(field: z.ZodType): z.ZodType {
  return field instanceof z.ZodDefault || field instanceof z.ZodPrefault ||
      field instanceof z.ZodOptional
    ? withoutDefault(field.unwrap() as z.ZodType)
    : field;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
