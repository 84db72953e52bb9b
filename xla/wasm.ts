/** tfjs's WebAssembly backend, which registers itself when imported; loaded only where it is used. */
import "@tensorflow/tfjs-backend-wasm";
