/**
 * What this machine has of each backend, what would be used, why the others not, and how to get them.
 * Looks only: nothing is fetched, installed or left running.
 */
import { UserError } from "../errors.ts";
import { cudaPlugin, HOW_TO_GET_CUDA } from "./cuda.ts";
import { bytesText, memoryLimit } from "./memory.ts";
import { checkOfficial, OFFICIAL, type OfficialName } from "./official.ts";
import { Client } from "./pjrt/client.ts";
import { PJRT_API_MAJOR, PJRT_API_MINOR } from "./pjrt/layout.ts";
import { checkCanFetch, cpuPluginPlace, pluginAt } from "./plugin.ts";
import { openPlugin } from "./use_backend.ts";

export interface Finding {
  /** As `--backend` takes it. */
  backend: string;
  usable: boolean;
  /** What was found, or why it cannot be used. */
  found: string;
  /** How to get it, where it cannot be used. */
  get?: string;
}

export interface Examination {
  findings: Finding[];
  /** What `useBackend(spec)` takes here; undefined where it takes nothing. */
  used: string | undefined;
}

/**
 * Examines every backend, and `spec` beside them where it is a plugin's path.
 * @param spec what the user asked for; undefined for the default
 */
export async function examineBackends(spec?: string): Promise<Examination> {
  const findings = [
    await finding(
      "xla:cuda",
      async () => describePlugin((await cudaPlugin()).path),
      HOW_TO_GET_CUDA,
    ),
    await finding(
      "xla:cpu",
      describeCpu,
      "Linux on x86-64 with python3 and pip; fetched at first use",
    ),
  ];
  for (const name of Object.keys(OFFICIAL) as OfficialName[]) {
    const { howToGet } = OFFICIAL[name];
    findings.push(await finding(name, () => checkOfficial(name), howToGet));
  }
  findings.push(
    {
      backend: "wasm",
      usable: true,
      found: "tfjs's WebAssembly kernels, completed by its cpu kernels",
    },
    { backend: "cpu", usable: true, found: "tfjs's reference kernels in JavaScript; slow" },
  );
  if (spec !== undefined && (spec.includes("/") || spec.endsWith(".so"))) {
    findings.unshift(
      await finding(
        spec,
        () => describePlugin(pluginAt(spec).path),
        "a file that is a PJRT plugin",
      ),
    );
  }
  const candidates = spec === undefined
    ? ["xla:cuda", "xla:cpu", "wasm"]
    : spec === "xla"
    ? ["xla:cuda", "xla:cpu"]
    : [spec];
  const used = candidates.find((name) =>
    findings.some(({ backend, usable }) => backend === name && usable)
  );
  return { findings, used };
}

async function finding(
  backend: string,
  look: () => string | Promise<string>,
  get: string,
): Promise<Finding> {
  try {
    return { backend, usable: true, found: await look() };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const found = error.message.replace(`backend '${backend}': `, "").replace(`: ${get}`, "");
    return { backend, usable: false, found, get };
  }
}

async function describeCpu(): Promise<string> {
  const { path, fetched } = cpuPluginPlace();
  if (fetched) return describePlugin(path, { cpu_device_count: 1 });
  await checkCanFetch();
  return `not fetched yet: the first use fetches it with pip to ${path}`;
}

/** The plugin's version beside ours, and its devices. */
function describePlugin(file: string, options: Record<string, number> = {}): string {
  const plugin = openPlugin(pluginAt(file));
  const { major, minor } = plugin.version;
  const ours = `${PJRT_API_MAJOR}.${PJRT_API_MINOR}`;
  const age = minor === PJRT_API_MINOR
    ? "the same as"
    : minor > PJRT_API_MINOR
    ? "newer than"
    : "older than";
  const client = new Client(plugin, options);
  try {
    const kinds = Map.groupBy(client.devices, ({ kind }) => kind);
    const devices = [...kinds].map(([kind, list]) => `${list.length} × ${kind}`).join(", ");
    const limit = memoryLimit(client);
    const memory = limit === undefined ? "" : `, ${bytesText(limit)} of memory`;
    return `${file}: PJRT ${major}.${minor} (${age} this program's ${ours}), ${client.platform}, ` +
      `${devices}${memory}`;
  } finally {
    client.destroy();
  }
}

/** The examination as lines for a terminal. */
export function examinationText({ findings, used }: Examination, spec?: string): string {
  const width = Math.max(...findings.map(({ backend }) => backend.length));
  const lines = findings.flatMap(({ backend, usable, found, get }) => {
    const mark = backend === used ? "used" : usable ? "found" : "no";
    const line = `${mark.padEnd(5)}  ${backend.padEnd(width)}  ${found}`;
    return get === undefined ? [line] : [line, `${" ".repeat(width + 9)}get it: ${get}`];
  });
  const asked = spec === undefined ? "by default" : `for --backend ${spec}`;
  return [
    ...lines,
    "",
    used === undefined ? `nothing can be used ${asked}` : `${used} is used ${asked}`,
  ].join("\n");
}

/** @throws UserError where what was asked for cannot be used */
export function requireUsable({ findings, used }: Examination, spec: string | undefined): void {
  if (used !== undefined) return;
  const found = findings.find(({ backend }) => backend === spec);
  throw new UserError(`backend '${spec}' cannot be used here: ${found?.found ?? "unknown"}`);
}
