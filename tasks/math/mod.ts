/** Mathematics: word problems with a checkable final answer. GSM8K so far, in its published files. */
export { gsm8k, readGsm8k } from "./gsm8k.ts";
