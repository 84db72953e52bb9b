/**
 * tfjs's own backends that come as packages which a user may have added: `tensorflow` (tfjs-node-gpu or
 * tfjs-node, with TensorFlow's C library) and `webgpu`. They register themselves with the one tfjs engine
 * of the process when they are loaded.
 */
import { createRequire } from "node:module";
import { UserError } from "../errors.ts";
import { tf } from "./tf.ts";

export interface OfficialBackend {
  /** Packages that bring it, the best first. */
  readonly packages: readonly string[];
  readonly howToGet: string;
}

export const OFFICIAL = {
  tensorflow: {
    packages: ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"],
    howToGet: "deno add npm:@tensorflow/tfjs-node@4.22.0 (or tfjs-node-gpu), then " +
      "deno install --allow-scripts=npm:@tensorflow/tfjs-node@4.22.0",
  },
  webgpu: {
    packages: ["@tensorflow/tfjs-backend-webgpu"],
    howToGet: "deno add npm:@tensorflow/tfjs-backend-webgpu@4.22.0, and run with --unstable-webgpu",
  },
} as const satisfies Record<string, OfficialBackend>;

export type OfficialName = keyof typeof OFFICIAL;

const require = createRequire(import.meta.url);

/** The first of a backend's packages that is installed. */
function installedPackage(name: OfficialName): string | undefined {
  return OFFICIAL[name].packages.find((id) => {
    try {
      require.resolve(`${id}/package.json`);
      return true;
    } catch {
      return false;
    }
  });
}

/** @throws UserError with what is missing and how to get it */
export async function checkOfficial(name: OfficialName): Promise<string> {
  const id = installedPackage(name);
  const { packages, howToGet } = OFFICIAL[name];
  if (id === undefined) {
    throw new UserError(
      `backend '${name}': package ${packages.join(" or ")} is not installed: ${howToGet}`,
      { exitCode: 2 },
    );
  }
  if (name === "webgpu") {
    const gpu = (globalThis.navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
    if (gpu === undefined) {
      throw new UserError(`backend 'webgpu': Deno shows no WebGPU; run with --unstable-webgpu`);
    }
    if (await gpu.requestAdapter() === null) {
      throw new UserError(
        "backend 'webgpu': this machine has no graphics adapter that WebGPU can use",
      );
    }
  }
  return id;
}

/** Makes the backend active. @throws UserError where it is missing or does not start */
export async function useOfficial(name: OfficialName): Promise<void> {
  const id = await checkOfficial(name);
  try {
    if (name === "tensorflow") mendUtil();
    require(id);
    if (!await tf.setBackend(name)) throw new Error("it does not start");
  } catch (cause) {
    throw new UserError(`backend '${name}' (${id}): ${(cause as Error).message}`, { cause });
  }
}

/** tfjs-node 4.22 calls functions that newer versions of node:util no longer have. */
function mendUtil(): void {
  const util = require("node:util") as Record<string, unknown>;
  util.isNullOrUndefined ??= (x: unknown) => x === null || x === undefined;
  util.isArray ??= Array.isArray;
}
