/**
 * `deno task bench [NAME ...]`: side-by-side measurements. Each runs a peer and this project in one run
 * and prints the ratio; none asserts a time.
 */
import { unknownName, UserError } from "../errors.ts";
import { benchAlfworld } from "./alfworld.ts";
import { benchEngine } from "./engine.ts";
import { benchLanguageModels } from "./lm.ts";
import { benchMath } from "./math.ts";
import { benchPipeline } from "./pipeline.ts";
import { benchRl } from "./rl.ts";

const benchmarks: Record<string, () => Promise<void>> = {
  engine: benchEngine,
  pipeline: benchPipeline,
  math: benchMath,
  alfworld: benchAlfworld,
  lm: benchLanguageModels,
  rl: benchRl,
};

if (import.meta.main) {
  try {
    const names = Deno.args.length > 0 ? Deno.args : Object.keys(benchmarks);
    for (const name of names) {
      const run = benchmarks[name];
      if (run === undefined) throw unknownName("benchmark", name, Object.keys(benchmarks));
      await run();
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(error.message);
    Deno.exit(error.exitCode);
  }
}
