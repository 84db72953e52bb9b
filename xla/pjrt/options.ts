/**
 * `xla.CompileOptionsProto`, encoded by hand: the few fields we set, by their numbers in
 * `xla/pjrt/proto/compile_options.proto`.
 */

/** What a program is compiled for. */
export interface CompileOptions {
  /** Devices that the program is partitioned over (SPMD). */
  numPartitions: number;
  /** XLA's own flags (`DebugOptions`) that differ from the plugin's defaults; absent means none do. */
  flags?: Readonly<Record<string, string | boolean>>;
}

/**
 * What JAX sets for its CPU client: NaN goes through maxima and minima, and reductions and single
 * products run in the plugin's own library, which is 2 to 8 times as fast on plain reductions (and
 * makes up for the strict maximum, which alone does not vectorise).
 */
export const CPU_FLAGS: Readonly<Record<string, string | boolean>> = {
  xla_cpu_enable_fast_min_max: false,
  xla_cpu_experimental_ynn_fusion_type:
    "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
};

export const SINGLE_DEVICE: CompileOptions = { numPartitions: 1 };

function varint(value: number): number[] {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

const WIRE_VARINT = 0;
const WIRE_BYTES = 2;

function integer(field: number, value: number): number[] {
  return [...varint((field << 3) | WIRE_VARINT), ...varint(value)];
}

function message(field: number, body: number[]): number[] {
  return [...varint((field << 3) | WIRE_BYTES), ...varint(body.length), ...body];
}

function bytes(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}

/** The serialised proto of `options`. */
export function encodeCompileOptions(options: CompileOptions): Uint8Array<ArrayBuffer> {
  const partitions = options.numPartitions;
  const build = [...integer(4, 1), ...integer(5, partitions)];
  if (partitions > 1) {
    const devices = Array.from(
      { length: partitions },
      (_, i) => message(3, message(1, varint(i))),
    ).flat();
    const assignment = [...integer(1, 1), ...integer(2, partitions), ...devices];
    // use_spmd_partitioning, device_assignment, use_shardy_partitioner
    build.push(...integer(6, 1), ...message(9, assignment), ...integer(19, 1));
  }
  const flags = Object.entries(options.flags ?? {}).flatMap(([name, value]) =>
    // map<string, OptionOverrideProto> env_option_overrides
    message(7, [
      ...message(1, bytes(name)),
      ...message(
        2,
        typeof value === "string" ? message(1, bytes(value)) : integer(2, Number(value)),
      ),
    ])
  );
  return Uint8Array.from([...message(3, build), ...flags]);
}
