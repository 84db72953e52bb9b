/** Trajectories as the training stages read them: checked against the model that they are for. */
import { join } from "node:path";
import { UserError } from "../errors.ts";
import { readTrajectories, type Trajectory } from "../rl/mod.ts";
import { files } from "./artifacts.ts";
import type { LanguageModel } from "./language_model.ts";

/**
 * @param folder an artifact of the kind `trajectories`
 * @throws UserError naming the file, and its line or the trajectory, where it is not one or has tokens
 *   that the model has not: it was tokenised for another
 */
export async function readSolutions(
  folder: string,
  { config }: Pick<LanguageModel, "config">,
): Promise<Trajectory[]> {
  const path = join(folder, files.trajectories);
  const trajectories = await readTrajectories(path);
  for (const [i, { query, promptIds, responseIds }] of trajectories.entries()) {
    const isStranger = (id: number) => id >= config.vocabSize;
    const stranger = promptIds.find(isStranger) ?? responseIds.find(isStranger);
    if (stranger === undefined) continue;
    throw new UserError(
      `${path}: trajectory ${
        i + 1
      }, of query '${query}', has token ${stranger}, and the model has ` +
        `${config.vocabSize} tokens: it was tokenised for another model`,
    );
  }
  return trajectories;
}
