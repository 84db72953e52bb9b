/** A model that reads and writes text: what stages load, in contrast to one of bare token ids. */
import { UserError } from "../errors.ts";
import { loadModel, type LoadOptions, type Model, type Tokenizer } from "../lm/mod.ts";

export type LanguageModel = Model & { readonly tokenizer: Tokenizer };

/** @throws {UserError} naming file and fault, also where the folder has no tokenizer */
export async function loadLanguageModel(
  path: string,
  options: LoadOptions = {},
): Promise<LanguageModel> {
  const model = await loadModel(path, options);
  const { tokenizer } = model;
  if (tokenizer === undefined) {
    throw new UserError(`the model ${path} has no tokenizer.json: put the one of its base there`);
  }
  return { ...model, tokenizer };
}

/** The text of each token of a response; special tokens have none. */
export function tokenTexts(tokenizer: Tokenizer, ids: readonly number[]): string[] {
  return ids.map((id) => tokenizer.decode([id], { skipSpecialTokens: true }));
}
