/**
 * Bundles tfjs-core's own specs (the `*_test.js` files of its npm package) with one backend into one
 * module that Deno can run: the package's files import without extensions, and the specs must share a
 * single copy of tfjs-core with the backend under test.
 */
import { build, type Plugin } from "esbuild";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import * as path from "node:path";
import { fileURLToPath } from "node:url";

export type BackendName = "cpu" | "wasm" | "xla";

export interface Bundle {
  /** The module's text. */
  readonly code: string;
  /** Spec files in it, as paths under the package's `dist`. */
  readonly files: readonly string[];
}

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Folder of an npm package, seen from the folder of the package that depends on it. */
function packageFolder(name: string, from: string): string {
  const manifest = createRequire(path.join(from, "package.json")).resolve(`${name}/package.json`);
  return path.dirname(manifest);
}

const tfjs = packageFolder("@tensorflow/tfjs", root);
const core = path.join(packageFolder("@tensorflow/tfjs-core", tfjs), "dist");
const cpu = packageFolder("@tensorflow/tfjs-backend-cpu", tfjs);

/** The module that makes the backend known before any spec is read, and records the kernels it runs. */
function environment(backend: BackendName, sync: boolean): string {
  const start = {
    cpu: "",
    wasm: `import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
setWasmPaths(${
      JSON.stringify(path.join(packageFolder("@tensorflow/tfjs-backend-wasm", root), "dist") + "/")
    });`,
    xla: `import { useBackend } from ${JSON.stringify(path.join(root, "xla/use_backend.ts"))};
await useBackend("xla");`,
  }[backend];
  return `import * as tf from "@tensorflow/tfjs-core";
import { setTestEnvs } from "@tensorflow/tfjs-core/dist/jasmine_util";
${start}
tf.env().reset();
setTestEnvs([{ name: "test-${backend}", backendName: "${backend}", isDataSync: ${sync} }]);
const engine = Object.getPrototypeOf(tf.engine());
const runKernelFunc = engine.runKernelFunc;
engine.runKernelFunc = function (options) {
  globalThis.conformance.kernels.add(options.kernelName ?? "(function)");
  return runKernelFunc.call(this, options);
};`;
}

/** The one tfjs of the bundle: tfjs-core with its gradients and chained ops, and the cpu kernels. */
const TFJS = `export * from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops";
import "@tensorflow/tfjs-core/dist/register_all_gradients";
import "@tensorflow/tfjs-backend-cpu";`;

function resolver(backend: BackendName, sync: boolean): Plugin {
  const virtual: Record<string, string> = { environment: environment(backend, sync), tfjs: TFJS };
  return {
    name: "tfjs-specs",
    setup(hooks) {
      const virtualModule = (name: string) => () => ({ path: name, namespace: "virtual" });
      const under = (folder: string) => ({ path: id }: { path: string }) =>
        hooks.resolve(`./${id.split("/").slice(2).join("/")}`, {
          kind: "import-statement",
          resolveDir: folder,
        });
      hooks.onResolve({ filter: /^virtual:environment$/ }, virtualModule("environment"));
      hooks.onResolve({ filter: /^@tensorflow\/tfjs$/ }, virtualModule("tfjs"));
      // The package's node entry would be a second engine; its ES modules are the one to share.
      hooks.onResolve(
        { filter: /^@tensorflow\/tfjs-core$/ },
        () => ({ path: path.join(core, "index.js") }),
      );
      hooks.onResolve({ filter: /^@tensorflow\/tfjs-core\// }, under(path.dirname(core)));
      hooks.onResolve(
        { filter: /^@tensorflow\/tfjs-backend-cpu$/ },
        () => ({ path: path.join(cpu, "dist/index.js") }),
      );
      hooks.onLoad({ filter: /.*/, namespace: "virtual" }, ({ path: name }) => ({
        contents: virtual[name]!,
        resolveDir: root,
      }));
      hooks.onLoad({ filter: /_test\.js$/ }, ({ path: file }) => ({
        contents: `globalThis.conformance.file = ${JSON.stringify(path.relative(core, file))};\n` +
          readFileSync(file, "utf8").replace(/\/\/# sourceMappingURL=.*/, ""),
      }));
    },
  };
}

/**
 * @param options.sync whether specs that read data synchronously are part of it
 * @param options.files limits the spec files
 * @throws where the bundle lacks a spec file or holds two copies of tfjs-core: either would let a run
 *   pass that proves nothing
 */
export async function bundleSpecs(
  backend: BackendName,
  options: { sync: boolean; files?: RegExp },
): Promise<Bundle> {
  const list = readFileSync(path.join(core, "tests.js"), "utf8");
  const all = [...list.matchAll(/^import '\.\/(.+)';/gm)].map((match) => match[1]!);
  const files = all.filter((file) => options.files?.test(file) ?? true);
  const kernels = backend === "wasm" ? "@tensorflow/tfjs-backend-wasm" : "@tensorflow/tfjs";
  const imports = [
    "@tensorflow/tfjs",
    kernels,
    "virtual:environment",
    ...files.map((file) => `@tensorflow/tfjs-core/dist/${file}`),
  ];
  const result = await build({
    stdin: {
      contents: imports.map((id) => `import ${JSON.stringify(id)};`).join("\n"),
      resolveDir: root,
      sourcefile: "entry.js",
    },
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
    mainFields: ["module", "main"],
    // package.json's `sideEffects` would drop every spec file without a word.
    ignoreAnnotations: true,
    external: ["jasmine-core/*", "fflate"],
    keepNames: true,
    metafile: true,
    logLevel: "error",
    banner: {
      js: [
        // Under a name of its own: a bundled file may import createRequire too.
        `import { createRequire as bannerCreateRequire } from "node:module";`,
        `const require = bannerCreateRequire(${JSON.stringify(import.meta.url)});`,
        `const __filename = import.meta.filename, __dirname = import.meta.dirname;`,
      ].join("\n"),
    },
    plugins: [resolver(backend, options.sync)],
  });
  const inputs = Object.keys(result.metafile.inputs);
  const engines = inputs.filter((file) => /tfjs-core\/dist\/(engine|tf-core[^/]*)\.js$/.test(file));
  if (engines.length !== 1) {
    throw new Error(
      `the bundle holds ${engines.length} copies of tfjs-core: ${engines.join(", ")}`,
    );
  }
  const kept = Object.entries(Object.values(result.metafile.outputs)[0]!.inputs)
    .filter(([file, { bytesInOutput }]) => /_test\.js$/.test(file) && bytesInOutput > 0);
  if (kept.length < files.length) {
    throw new Error(`the bundle holds ${kept.length} of ${files.length} spec files`);
  }
  return { code: result.outputFiles[0]!.text, files };
}
