/** `logprobs`: how likely a model finds given sequences, JSON lines in and out. */
import process from "node:process";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { loadModel, Scorer } from "../lm/mod.ts";
import { chooseEngine, startEngine } from "../stages/mod.ts";
import {
  checkTokenIds,
  inGroups,
  type Line,
  lineId,
  readJsonLines,
  writeJsonLine,
} from "./json_lines.ts";
import { backend, dtype, modelOptions, plainCommand, wholeNumber } from "./options.ts";

const Sequence = z.strictObject({
  id: lineId,
  input_ids: z.array(z.int().nonnegative()).min(1, "it must hold at least one token"),
});

/** Lines whose results are computed together. */
const GROUP = 2048;

/** The command. */
export function logprobsCommand() {
  const command = plainCommand(
    "logprobs",
    'log-probabilities of token sequences: {"id", "input_ids"} a line in, {"id", "logprobs"} out',
  )
    .requiredOption(...modelOptions.model)
    .option(...modelOptions.adapter)
    .option("--batch-size <number>", "sequences of one run of the model", wholeNumber, 32)
    .addOption(dtype(["float32", "bfloat16"]))
    .option(...backend);
  return command.action(async ({ model: path, adapter, batchSize, dtype, ...options }) => {
    if (batchSize < 1) throw new UserError("--batch-size must be at least 1", { exitCode: 2 });
    chooseEngine(options.backend);
    await startEngine(() => {});
    const model = await loadModel(path, { dtype, ...(adapter === undefined ? {} : { adapter }) });
    const scorer = new Scorer(model, { batchSize });
    const { maxPositions, vocabSize } = model.config;
    const check = ({ number, value }: Line<z.infer<typeof Sequence>>) => {
      checkTokenIds(value.input_ids, vocabSize, number);
      if (value.input_ids.length <= maxPositions) return;
      throw new UserError(
        `line ${number} of the input: ${value.input_ids.length} tokens are more than the model's ` +
          `${maxPositions} positions`,
      );
    };
    for await (const lines of inGroups(readJsonLines(Sequence, process.stdin), GROUP)) {
      lines.forEach(check);
      // The first token has no probability, so a sequence of one has nothing to score.
      const longer = lines.filter(({ value }) => value.input_ids.length > 1);
      const scored = await scorer.sequences(longer.map(({ value }) => value.input_ids));
      const logProbs = new Map(longer.map((line, i) => [line, scored[i]!]));
      for (const line of lines) {
        const { id } = line.value;
        await writeJsonLine({ id, logprobs: [...logProbs.get(line) ?? []] });
      }
    }
  });
}
