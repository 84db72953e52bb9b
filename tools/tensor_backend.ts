/**
 * Loads the default tensor backend, fetching its plugin on the first run, computes with it and says
 * which it is. `--require NAME` makes any other backend a failure.
 */
import { strict as assert } from "node:assert";
import { tf, useBackend } from "../xla/mod.ts";

const { name, platform, devices } = await useBackend();
const product = tf.matMul(tf.ones([2, 3]), tf.ones([3, 2]));
assert.deepEqual([...await product.data()], [3, 3, 3, 3]);
console.log(`tensor backend: ${name} on ${platform}, ${devices} device${devices === 1 ? "" : "s"}`);

const required = Deno.args[Deno.args.indexOf("--require") + 1];
if (Deno.args.includes("--require") && required !== name) {
  console.error(`the ${required} backend was required`);
  Deno.exit(1);
}
