/**
 * What must not stand in the project: addresses of package registries (clients know their own, and
 * mirrors differ), paths of one machine, and files grown too long to read.
 */

// Each pattern is written so that it does not find itself.
const forbidden: readonly [pattern: RegExp, what: string][] = [
  [/registr[y]\.npmjs|npmjs\.or[g]\/|jsr\.i[o]\//, "a package registry's address"],
  [/pyp[i]\.org|files\.pythonhost[e]d/, "a package registry's address"],
  [/(?:prox[y]|su[m])\.golang|crate[s]\.io|repo1?\.mave[n]|de[b]\.debian/, "a registry's address"],
  [/\/wor[k]\/(?:main|shared)|\/hom[e]\/\w+\/|\/User[s]\/\w+\//, "a path of one machine"],
];

/** Lines of a file above which it is worth asking whether it is two. */
export const longFile = 450;

/** Lines of `text` with forbidden content, as lines to print. */
export function checkContent(file: string, text: string): string[] {
  return text.split("\n").flatMap((line, index) =>
    forbidden
      .filter(([pattern]) => pattern.test(line))
      .map(([, what]) => `${file}:${index + 1}: ${what}: ${line.trim().slice(0, 100)}`)
  );
}

/** A warning where a source file is long, or undefined. */
export function checkLength(file: string, text: string): string | undefined {
  const lines = text.split("\n").length - 1;
  return lines > longFile ? `${file} has ${lines} lines: would two files be clearer?` : undefined;
}
