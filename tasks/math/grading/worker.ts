/** Grades cases in a thread of its own, one after the other, answering each as soon as it is done. */
import { parentPort } from "node:worker_threads";
import { gradeMath } from "../answers/mod.ts";
import type { GradedCase, GradingCase } from "./cases.ts";

parentPort!.on("message", async (cases: GradingCase[]) => {
  for (const { id, gold, prediction, task } of cases) {
    let grade: Omit<GradedCase, "id">;
    try {
      grade = await gradeMath(gold, prediction, task);
    } catch (error) {
      // A case that cannot be graded is not right, and must not end the others.
      grade = {
        correct: false,
        extracted: null,
        reason: `not gradable: ${(error as Error).message}`,
      };
    }
    parentPort!.postMessage({ id, ...grade } satisfies GradedCase);
  }
});
