/** `serve`: a model behind an OpenAI-compatible API, for any client to try. */
import { basename, resolve } from "node:path";
import { UserError } from "../errors.ts";
import { loadModel, packedTypes, serveModel } from "../lm/mod.ts";
import { chooseEngine, startEngine } from "../stages/mod.ts";
import { backend, dtype, modelOptions, plainCommand, storedType, wholeNumber } from "./options.ts";

/** The command. */
export function serveCommand() {
  const command = plainCommand("serve", "serve a model through an OpenAI-compatible API")
    .requiredOption(...modelOptions.model)
    .option(...modelOptions.adapter)
    .option("--name <name>", "what clients call the model (default: the last part of its path)")
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--port <number>", "port to listen on; 0 takes a free one", wholeNumber, 8000)
    .addOption(dtype(packedTypes))
    .option("--slots <number>", "sequences decoded side by side", wholeNumber, 8)
    .option("--max-length <number>", "most tokens of prompt and answer together", wholeNumber)
    .option(
      "--api-key <key>",
      "clients must send it (default: OREO_API_KEY; needed beyond this machine)",
    )
    .option(...backend);
  return command.action(async ({ model: path, adapter, name, host, port, dtype, ...options }) => {
    const apiKey = options.apiKey ?? (Deno.env.get("OREO_API_KEY") || undefined);
    if (!/^(127\.[\d.]+|::1|localhost)$/.test(host) && apiKey === undefined) {
      throw new UserError(
        `serve: ${host} can be reached from other machines: give --api-key or OREO_API_KEY`,
        { exitCode: 2 },
      );
    }
    chooseEngine(options.backend);
    await startEngine((text) => console.error(text));
    const model = await loadModel(path, {
      dtype: storedType(dtype),
      ...(adapter === undefined ? {} : { adapter }),
    });
    const { maxPositions } = model.config;
    if (options.maxLength !== undefined && options.maxLength > maxPositions) {
      throw new UserError(
        `--max-length ${options.maxLength} is beyond the model's ${maxPositions} positions`,
        { exitCode: 2 },
      );
    }
    const known = name ?? basename(resolve(path)).replace(/\.gguf$/, "");
    using served = serveModel(model, {
      name: known,
      slots: options.slots,
      dtype,
      ...(options.maxLength === undefined ? {} : { maxLength: options.maxLength }),
      ...(apiKey === undefined ? {} : { apiKey }),
    });
    const stop = new AbortController();
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => stop.abort());
    }
    const server = Deno.serve({
      hostname: host,
      port,
      signal: stop.signal,
      onListen: ({ hostname, port }) => {
        const shown = hostname.includes(":") ? `[${hostname}]` : hostname;
        console.log(`serving ${known} at http://${shown}:${port}/v1`);
      },
    }, served.fetch);
    await server.finished;
  });
}
