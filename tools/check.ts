/**
 * `deno task check`: everything about the sources that can be said without running them. Prints each
 * step and what it found; exits with 1 if any step failed. Names of steps as arguments run only those.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { unknownName, UserError } from "../errors.ts";
import { checkDocument, surroundings } from "./docs.ts";
import { checkContent, checkLength } from "./hygiene.ts";
import { checkImports } from "./imports.ts";
import { listFiles, root, runCommand } from "./repository.ts";

const deno = Deno.execPath();
const read = (file: string) => readFileSync(join(root, file), "utf8");
const sources = () => listFiles((path) => /\.(?:ts|tsx)$/.test(path));

/** Prints findings; true where there are none. */
function report(findings: readonly string[]): boolean {
  for (const line of findings) console.log(`  ${line}`);
  return findings.length === 0;
}

interface Step {
  readonly says: string;
  run(): Promise<boolean> | boolean;
}

const steps: Readonly<Record<string, Step>> = {
  format: {
    says: "deno fmt --check (mend with: deno fmt)",
    run: async () => await runCommand(deno, ["fmt", "--check", "--quiet"]) === 0,
  },
  lint: {
    says: "deno lint",
    run: async () => await runCommand(deno, ["lint", "--quiet"]) === 0,
  },
  types: {
    says: "deno check of every source",
    run: async () => await runCommand(deno, ["check", "--quiet", ...sources()]) === 0,
  },
  imports: {
    says: "rooms import one way, through mod.ts",
    run: async () => report(await checkImports(root, sources())),
  },
  docs: {
    says: "links, tasks and paths named in documents exist",
    run: () => {
      const around = surroundings(root);
      const documents = listFiles((path) => path.endsWith(".md"));
      return report(documents.flatMap((file) => checkDocument(file, read(file), around)));
    },
  },
  hygiene: {
    says: "no registry addresses, no machine paths; long files are mentioned",
    run: () => {
      const files = listFiles((path) =>
        /\.(?:tsx?|m?js|json|md|ya?ml|css|html|sh)$|Containerfile|\/run$/.test(path)
      );
      for (const file of sources()) {
        const warning = checkLength(file, read(file));
        if (warning !== undefined) console.log(`  note: ${warning}`);
      }
      return report(files.flatMap((file) => checkContent(file, read(file))));
    },
  },
};

async function main(names: readonly string[]): Promise<number> {
  const stranger = names.find((name) => steps[name] === undefined);
  if (stranger !== undefined) throw unknownName("check", stranger, Object.keys(steps));
  const failed: string[] = [];
  for (const name of names.length === 0 ? Object.keys(steps) : names) {
    console.log(`${name}: ${steps[name]!.says}`);
    if (!await steps[name]!.run()) failed.push(name);
  }
  console.log(failed.length === 0 ? "check: all good" : `check: failed: ${failed.join(", ")}`);
  return failed.length === 0 ? 0 : 1;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`check: ${error.message}`);
    Deno.exit(error.exitCode);
  }
}
