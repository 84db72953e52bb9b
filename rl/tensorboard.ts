/**
 * Scalars as TensorBoard event files: records of the TFRecord form (length, masked CRC-32C of it, data,
 * masked CRC-32C of that) that each hold one `Event` protocol buffer. Only what scalars need of either.
 */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli) of bytes. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** As TFRecord stores it: rotated and offset, so that a checksum of data with checksums is sound. */
function masked(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** One TFRecord around `data`. */
export function record(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length + 16);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, masked(crc32c(out.subarray(0, 8))), true);
  out.set(data, 12);
  view.setUint32(12 + data.length, masked(crc32c(data)), true);
  return out;
}

function varint(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = value;; rest >>= 7n) {
    if (rest < 128n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 127n) | 128);
  }
}

const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];
const key = (field: number, wire: number) => (field << 3) | wire;

function float(field: number, value: number, wide: boolean): number[] {
  const bytes = new Uint8Array(wide ? 8 : 4);
  const view = new DataView(bytes.buffer);
  if (wide) view.setFloat64(0, value, true);
  else view.setFloat32(0, value, true);
  return [key(field, wide ? FIXED64 : FIXED32), ...bytes];
}

function bytesField(field: number, bytes: Iterable<number>): number[] {
  const content = [...bytes];
  return [key(field, BYTES), ...varint(BigInt(content.length)), ...content];
}

const utf8 = new TextEncoder();

/** `Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } }`. */
function scalarEvent(seconds: number, step: number, values: Record<string, number>): Uint8Array {
  const summary = Object.entries(values).flatMap(([tag, value]) =>
    bytesField(1, [...bytesField(1, utf8.encode(tag)), ...float(2, value, false)])
  );
  return Uint8Array.from([
    ...float(1, seconds, true),
    key(2, VARINT),
    ...varint(BigInt(step)),
    ...bytesField(5, summary),
  ]);
}

/** An event file of one process. A resumed run opens another beside it; TensorBoard reads all. */
export class EventFile {
  readonly path: string;
  readonly #file: number;
  readonly #now: () => number;

  /**
   * @param folder made if need be; TensorBoard shows it as a run
   * @param now the clock, ms since 1970
   */
  constructor(folder: string, now: () => number = Date.now) {
    mkdirSync(folder, { recursive: true });
    const started = Math.floor(now() / 1000);
    this.path = join(folder, `events.out.tfevents.${started}.${hostname()}.${process.pid}`);
    this.#file = openSync(this.path, "a");
    this.#now = now;
    const version = bytesField(3, utf8.encode("brain.Event:2"));
    this.#write(Uint8Array.from([...float(1, now() / 1000, true), ...version]));
  }

  /** Appends the values of a step at once, so that a kill loses none that were added. */
  add(step: number, values: Record<string, number>): void {
    this.#write(scalarEvent(this.#now() / 1000, step, values));
  }

  #write(data: Uint8Array): void {
    writeSync(this.#file, record(data));
  }

  close(): void {
    closeSync(this.#file);
  }
}
