/** A store, a journal and a folder for results, in a temporary folder that is gone after the test. */
import { join } from "node:path";
import type { Event } from "../events.ts";
import type { Journal } from "../journal.ts";
import { openJournal } from "../journal_open.ts";
import { inlineExecutor } from "../executors/inline.ts";
import type { RunOptions, RunResult } from "../run_options.ts";
import { runWorkflow } from "../runner.ts";
import { FolderStore } from "../store_folder.ts";
import { defineWorkflow, type Workflow, type WorkflowBuilder } from "../workflow.ts";
import { z } from "zod";
import { stages } from "./stages.ts";

export interface Fixture {
  folder: string;
  store: FolderStore;
  journal: Journal;
  run(workflow: Workflow, options?: Partial<RunOptions>): Promise<RunResult>;
  events(): Promise<Event[]>;
}

export async function withFixture(body: (fixture: Fixture) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "pipeline-" });
  const store = new FolderStore(join(folder, "store"));
  const journal = openJournal(join(folder, "journal.sqlite"));
  const fixture: Fixture = {
    folder,
    store,
    journal,
    run: (workflow, options = {}) =>
      runWorkflow(workflow, {}, {
        store,
        journal,
        executor: inlineExecutor(stages, store),
        out: join(folder, "out"),
        backoff: () => 1,
        ...options,
      }),
    async events() {
      const [latest] = await journal.runs();
      return latest === undefined ? [] : await journal.events(latest.id);
    },
  };
  try {
    await body(fixture);
  } finally {
    await journal.close();
    await Deno.remove(folder, { recursive: true });
  }
}

export function workflowOf(build: (w: WorkflowBuilder) => void): Workflow {
  return defineWorkflow({ name: "w", description: "", params: z.object({}), build });
}

/** Every file below a folder with its content, for comparing results byte by byte. */
export async function contents(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (!isDirectory) found[name] = await Deno.readTextFile(path);
    else for (const [k, v] of Object.entries(await contents(path))) found[`${name}/${k}`] = v;
  }
  return Object.fromEntries(Object.entries(found).sort());
}
