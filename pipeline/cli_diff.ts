/** `pipeline diff RUN OTHER`: what two runs differ in. */
import { findRun, type PlaceOptions, print, withJournal } from "./cli_place.ts";
import type { Json } from "./events.ts";
import { longest } from "./graph.ts";
import { changedPaths } from "./json_diff.ts";
import type { RunDetail } from "./journal.ts";

interface Difference {
  /** `seed`, `parameter PATH`, `value NAME`, `stage ID` or `stage ID: PATH` for one of its parameters. */
  readonly what: string;
  readonly before: string;
  readonly now: string;
}

/**
 * Prints how the second run differs from the first: workflow and seed, parameters, the values they
 * ended with, and the stages that one has and the other not or that did other work.
 *
 * @throws UserError (wrong use) where there is no such run
 */
export async function diffRunsCommand(
  first: string,
  second: string,
  options: PlaceOptions & { json?: boolean | undefined },
): Promise<void> {
  await withJournal(options, { readOnly: true }, async (journal) => {
    const found = differencesOf(await findRun(journal, first), await findRun(journal, second));
    if (options.json) return await print(JSON.stringify(found, null, 2) + "\n");
    if (found.length === 0) return await print("they do not differ\n");
    const width = Math.min(60, longest(found.map(({ what }) => what)));
    await print(
      found.map(({ what, before, now }) => `${what.padEnd(width)}  ${before} -> ${now}\n`).join(""),
    );
  });
}

function differencesOf(first: RunDetail, second: RunDetail): Difference[] {
  const found: Difference[] = [];
  const compare = (what: string, before: Json | undefined, now: Json | undefined) => {
    for (const { path, ...values } of changedPaths(before, now)) {
      found.push({ what: [what, path].filter((part) => part !== "").join(" "), ...values });
    }
  };
  compare("workflow", first.workflow, second.workflow);
  compare("seed", first.seed, second.seed);
  compare("parameter", first.params, second.params);
  compare("value", first.values ?? {}, second.values ?? {});
  const earlier = new Map(first.stages.map((stage) => [stage.id, stage]));
  const later = new Map(second.stages.map((stage) => [stage.id, stage]));
  for (const id of new Set([...earlier.keys(), ...later.keys()])) {
    const [before, now] = [earlier.get(id), later.get(id)];
    if (before === undefined || now === undefined) {
      found.push({
        what: `stage ${id}`,
        before: before?.state ?? "none",
        now: now?.state ?? "none",
      });
      continue;
    }
    const params = changedPaths(before.params, now.params);
    for (const { path, ...values } of params) {
      found.push({ what: `stage ${id}: ${path}`, ...values });
    }
    // Other inputs, seed or code: `--dry-run` tells which.
    const [was, is] = [before.key?.slice(0, 12), now.key?.slice(0, 12)];
    if (params.length === 0 && was !== is) {
      found.push({ what: `stage ${id}: work`, before: was ?? before.state, now: is ?? now.state });
    }
  }
  return found;
}
