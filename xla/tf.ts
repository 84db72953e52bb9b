/**
 * The one TensorFlow.js of the project. Under Deno only the union package registers the gradients, so
 * every room imports `tf` from `xla/mod.ts` and nothing imports the package directly.
 */
import * as tf from "@tensorflow/tfjs";

// tfjs's cpu backend prints an advertisement for tfjs-node on first use; production mode silences it
// and changes nothing else.
tf.env().set("PROD", true);

export { tf };
