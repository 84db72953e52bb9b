/** `status`: the status page and API over a journal, until Ctrl-C. */
import { command, wholeNumber } from "./options.ts";

/**
 * The command. `OREO_STATUS_TOKEN` is the token that readers must bring. With `OREO_JOURNAL_TOKEN`,
 * jobs that bring that one run with `--journal http://HOST:PORT/journal`.
 */
export function statusCommand() {
  return command("status", "serve the status page and API")
    .option("--host <address>", "address to listen on", "127.0.0.1")
    .option("--port <number>", "port to listen on; 0 takes any", wholeNumber, 8080)
    .action(async ({ host, port, journal }) => {
      // Loaded here so that no other command pays for it.
      const { serveStatus } = await import("../status/mod.ts");
      const { journalHandler, openJournal } = await import("../pipeline/mod.ts");
      const writeToken = Deno.env.get("OREO_JOURNAL_TOKEN");
      const intake = writeToken === undefined || writeToken === ""
        ? {}
        : { intake: journalHandler(openJournal(journal), { token: writeToken }) };
      const token = Deno.env.get("OREO_STATUS_TOKEN");
      const server = serveStatus({
        host,
        port,
        journal,
        ...intake,
        ...(token === undefined ? {} : { readToken: token }),
      });
      console.log(`status of ${journal} at ${server.url} (Ctrl-C ends)`);
      Deno.addSignalListener("SIGINT", () => void server.shutdown());
      await server.finished;
    });
}
