/** Values between tfjs's typed arrays and the bytes of a device buffer. */
import { tf } from "./tf.ts";
import { DEVICE_DTYPE, type Entry, tfjsDtype } from "./entry.ts";

/** Host values in the array type that the device's element type needs. */
export function hostArray(entry: Entry): ArrayBufferView<ArrayBuffer> {
  const values = entry.host as tf.TypedArray;
  switch (DEVICE_DTYPE[entry.dtype]) {
    case "f32":
    case "c64":
      return (values instanceof Float32Array ? values : Float32Array.from(values)) as Float32Array<
        ArrayBuffer
      >;
    case "i32":
      return (values instanceof Int32Array ? values : Int32Array.from(values)) as Int32Array<
        ArrayBuffer
      >;
    default:
      return (values instanceof Uint8Array ? values : Uint8Array.from(values)) as Uint8Array<
        ArrayBuffer
      >;
  }
}

export function readBytes(
  entry: Entry,
):
  | Uint16Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer> {
  const size = tf.util.sizeFromShape([...entry.shape]);
  switch (entry.hlo) {
    case "bf16":
      return new Uint16Array(size);
    case "f32":
      return new Float32Array(size);
    case "c64":
      return new Float32Array(2 * size);
    case "i32":
      return new Int32Array(size);
    case "i1":
      return new Uint8Array(size);
    case "i8":
      return new Int8Array(size);
    default:
      throw new Error(
        `reading element type ${entry.hlo} (${tfjsDtype(entry.hlo)}) is not supported`,
      );
  }
}

export function hostValues(
  entry: Entry,
  bytes: tf.BackendValues | Uint16Array | Int8Array,
): tf.BackendValues {
  switch (entry.hlo) {
    case "bf16":
      return widenBfloat16(bytes as Uint16Array);
    case "i8":
      return Int32Array.from(bytes as Int8Array);
    default:
      return bytes as unknown as tf.BackendValues;
  }
}

/** bfloat16 bits to float32. */
function widenBfloat16(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return new Float32Array(words.buffer);
}
