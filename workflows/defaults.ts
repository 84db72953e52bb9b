/** Other defaults for a schema that someone else wrote. */
import { z } from "zod";

/** The same object schema with `defaults` in place of its own, field by field. */
export function withDefaults<Schema extends z.ZodObject>(
  schema: Schema,
  defaults: Partial<z.input<Schema>> = {},
): Schema {
  const changed = Object.entries(defaults).map(([name, value]) => {
    const field = schema.shape[name] as z.ZodType;
    const bare = field instanceof z.ZodDefault || field instanceof z.ZodPrefault ||
        field instanceof z.ZodOptional
      ? field.unwrap() as z.ZodType
      : field;
    return [name, bare.prefault(value as never)];
  });
  return schema.extend(Object.fromEntries(changed)) as unknown as Schema;
}
