/** Mathematics: problems with a checkable final answer, their published data, and how answers are graded. */
export { gsm8k, readGsm8k } from "./gsm8k.ts";
export { math } from "./math.ts";
export {
  type AnswerStyle,
  closeAlgebra,
  equalAnswers,
  extractAnswer,
  type Extracted,
  gradeMath,
  type MathGrade,
} from "./answers/mod.ts";
export { type GradedCase, type GradingCase, parseCase } from "./grading/cases.ts";
export { gradeCases, type PoolOptions } from "./grading/pool.ts";
