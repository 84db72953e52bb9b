/** The value model that OREO starts from: the policy's body with a zero head, or an earlier one. */
import { addValueHead } from "../lm/mod.ts";
import { type LanguageModel, loadLanguageModel } from "./language_model.ts";

export async function valueModelOf(
  policy: LanguageModel,
  earlier: string | undefined,
): Promise<LanguageModel> {
  if (earlier !== undefined) return await loadLanguageModel(earlier);
  return { ...policy, params: addValueHead(policy.config, policy.params) };
}
