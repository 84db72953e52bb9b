/** Moving data between host memory and the devices of a mesh, each of which holds a part. */
import type { Client, ElementType } from "./pjrt/client.ts";
import type { DType } from "./hlo/mod.ts";
import { sizeOf } from "./hlo/mod.ts";
import type { Entry, Shards } from "./entry.ts";
import { copyPart, isReplicated, type Part, partOf, type Sharding } from "./mesh.ts";

type Numbers = Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

const wordsOf = (hlo: DType) => hlo === "c64" ? 2 : 1;

function emptyPart(like: Numbers, { sizes }: Part, words: number): Numbers {
  const ArrayType = like.constructor as new (length: number) => Numbers;
  return new ArrayType(sizeOf(sizes) * words);
}

/** One buffer a device of the mesh, with its part of the data (row-major, dense). */
export function uploadParts(
  client: Client,
  data: ArrayBufferView<ArrayBuffer>,
  shape: readonly number[],
  hlo: DType,
  sharding: Sharding,
): bigint[] {
  const whole = data as Numbers;
  return Array.from({ length: sharding.mesh.size }, (_, device) => {
    if (isReplicated(sharding)) {
      return client.bufferFromHost(whole, hlo as ElementType, shape, device);
    }
    const part = partOf(sharding, shape, device);
    const own = emptyPart(whole, part, wordsOf(hlo));
    copyPart(whole, shape, part, own, "out", wordsOf(hlo));
    return client.bufferFromHost(own, hlo as ElementType, part.sizes, device);
  });
}

/** The devices to read from, so that every part is read once. */
function sources({ sharding }: Shards, shape: readonly number[]): { device: number; part: Part }[] {
  const seen = new Map<string, { device: number; part: Part }>();
  for (let device = 0; device < sharding.mesh.size; device++) {
    const part = partOf(sharding, shape, device);
    const key = part.starts.join();
    if (!seen.has(key)) seen.set(key, { device, part });
  }
  return [...seen.values()];
}

/** Reads all parts of a sharded entry into `out`. */
export function gatherPartsSync(client: Client, entry: Entry, out: ArrayBufferView<ArrayBuffer>) {
  const words = wordsOf(entry.hlo);
  for (const { device, part } of sources(entry.shards!, entry.shape)) {
    const own = emptyPart(out as Numbers, part, words);
    client.readSync(entry.shards!.buffers[device]!, own);
    copyPart(out as Numbers, entry.shape, part, own, "in", words);
  }
}

/** As {@link gatherPartsSync}, without blocking this thread. */
export async function gatherParts(
  client: Client,
  entry: Entry,
  out: ArrayBufferView<ArrayBuffer>,
): Promise<void> {
  const words = wordsOf(entry.hlo);
  const { shape, shards } = entry;
  await Promise.all(
    sources(shards!, shape).map(async ({ device, part }) => {
      const own = emptyPart(out as Numbers, part, words);
      await client.read(shards!.buffers[device]!, own);
      copyPart(out as Numbers, shape, part, own, "in", words);
    }),
  );
}
