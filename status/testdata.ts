/**
 * A journal in a temporary folder with runs in every state, made by the journal's own writer, for the
 * tests of this room and of the pages in a browser. The figures are invented.
 */
import { join } from "node:path";
import { type EventBody, type GraphRecord, type Journal, openJournal } from "../pipeline/mod.ts";
import type { RunWriter } from "../pipeline/mod.ts";

export const HOSTILE = `<script>alert("x")</script><img src=x onerror=alert(1)>`;

export interface TestJournal {
  folder: string;
  path: string;
  journal: Journal;
  /** Claims a new run; the run is its id. */
  begin(run: string): Promise<RunWriter>;
  close(): Promise<void>;
}

export async function testJournal(): Promise<TestJournal> {
  const folder = await Deno.makeTempDir({ prefix: "status" });
  const path = join(folder, "journal.sqlite");
  const journal = openJournal(path);
  return {
    folder,
    path,
    journal,
    async begin(run) {
      // A runner on another machine: it counts as alive as long as its heartbeat is fresh.
      const nonce = crypto.randomUUID();
      const owner = { machine: "elsewhere", host: "elsewhere", pid: 1, birth: "", nonce };
      const result = await journal.claim({ newRun: run, fingerprint: run }, owner);
      if (result.state !== "granted") throw new Error(`run ${run} is held`);
      return result.writer;
    },
    async close() {
      await journal.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

const chain = (...nodes: [id: string, stage: string, inputs: string[]][]): GraphRecord => ({
  nodes: nodes.map(([id, stage, inputs]) => ({ id, stage, inputs, params: { seed: 1 } })),
});

/** The graph of a workflow with two iterations, as wide as the real ones. */
export const GRAPH: GraphRecord = chain(
  ["problems", "make-problems", []],
  ["sft", "train-sft", ["problems"]],
  ...[1, 2].flatMap((k): [string, string, string[]][] => {
    const policy = k === 1 ? "sft" : `oreo.${k - 1}`;
    return [
      [`sample.${k}`, "sample", [policy, "problems"]],
      [`score.${k}`, "score", [`sample.${k}`, policy]],
      [`rejection.${k}`, "train-rejection", [`score.${k}`]],
      [`oreo.${k}`, "train-oreo", [`score.${k}`, policy]],
      [`search.${k}`, "search", [`oreo.${k}`]],
      [`evaluate.${k}`, "evaluate", [`search.${k}`, `rejection.${k}`]],
    ];
  }),
  ["report", "report", ["evaluate.1", "evaluate.2"]],
);

export function started(out: string, graph: GraphRecord = GRAPH): EventBody {
  const params = { iterations: 2, "oreo.beta": 0.03, note: HOSTILE };
  return { type: "run.started", workflow: "demo", params, seed: 1, graph, out };
}

export function done(stage: string, seconds: number, values = {}): EventBody {
  return {
    type: "stage.done",
    stage,
    attempt: 1,
    key: "k",
    artifacts: { out: `sha256-${stage}` },
    values,
    seconds,
  };
}

const begun = (stage: string): EventBody => ({
  type: "stage.started",
  stage,
  attempt: 1,
  key: "k".repeat(8),
});

/** A run in the middle of its training: stages done, one cached, one running, the rest waiting. */
export function halfway(writer: RunWriter, out: string): void {
  writer.append(started(out));
  const log = (stage: string, text: string, level: "info" | "warn" = "info") =>
    writer.append({ type: "stage.log", stage, attempt: 1, text, level });
  writer.append({
    type: "stage.cached",
    stage: "problems",
    key: "k",
    artifacts: {},
    values: { train: 2000, test: 500 },
  });
  writer.append(begun("sft"));
  for (let step = 1; step <= 150; step++) {
    const sft_loss = 0.3 + 2.4 * Math.exp(-step / 40) + 0.05 * Math.sin(step * 1.7);
    writer.append({
      type: "stage.metric",
      stage: "sft",
      attempt: 1,
      step,
      values: { sft_loss, grad_norm: step === 3 ? null : 1 + Math.exp(-step / 20) },
    });
  }
  log("sft", "trained on 2000 solutions, 150 steps");
  writer.append(done("sft", 61.3, { loss: 0.3123 }));
  for (const [stage, seconds] of [["sample.1", 24.2], ["score.1", 6.1]] as const) {
    writer.append(begun(stage));
    log(stage, `read ${HOSTILE}`, "warn");
    writer.append(done(stage, seconds, { responses: 8000, correct: 4312 }));
  }
  writer.append(begun("oreo.1"));
  for (let step = 1; step <= 40; step++) {
    writer.append({
      type: "stage.metric",
      stage: "oreo.1",
      attempt: 1,
      step,
      values: {
        value_loss: 0.25 - step / 400 + 0.01 * Math.sin(step),
        policy_loss: 0.24 - step / 600 + 0.01 * Math.cos(step),
        kl: step / 2000,
        v_auc: 0.5 + 0.35 * (1 - Math.exp(-step / 15)),
      },
    });
  }
  log("oreo.1", "value model warmed up: AUC 0.78 on held-out solutions");
  writer.append({
    type: "stage.progress",
    stage: "oreo.1",
    attempt: 1,
    done: 40,
    total: 120,
    unit: "steps",
  });
}
