/** A real Postgres server for tests, from what the machine has installed; gone after the test. */
import { join } from "node:path";

export interface PostgresServer {
  readonly url: string;
  restart(): Promise<void>;
}

/** Runs `body` with a fresh server; says so and returns where the machine has none. */
export async function withPostgres(body: (server: PostgresServer) => Promise<void>): Promise<void> {
  const bin = findBinaries();
  if (bin === undefined) {
    console.log("skipped: no Postgres server here (Debian: apt-get install postgresql)");
    return;
  }
  const folder = await Deno.makeTempDir({ prefix: "postgres-" });
  // The server refuses to run as root.
  const asUser = Deno.uid() === 0
    ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    : [];
  const run = async (...args: string[]) => {
    const [command, ...rest] = [...asUser, ...args];
    const output = await new Deno.Command(command!, { args: rest, cwd: "/" }).output();
    if (!output.success) {
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      throw new Error(`${args.join(" ")}: ${text(output.stdout)}${text(output.stderr)}`);
    }
  };
  const data = join(folder, "data");
  const options = `-k ${folder} -c listen_addresses='' -c fsync=off -c max_connections=40`;
  const start = () =>
    run(join(bin, "pg_ctl"), "-D", data, "-o", options, "-l", join(folder, "log"), "-w", "start");
  const stop = () => run(join(bin, "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop");
  try {
    await Deno.chmod(folder, 0o777);
    await run(join(bin, "initdb"), "-D", data, "-U", "tester", "-A", "trust", "--no-sync");
    await start();
    await body({
      url: `postgres://tester@localhost/postgres?host=${encodeURIComponent(folder)}`,
      async restart() {
        await stop();
        await start();
      },
    });
  } finally {
    await stop().catch(() => {});
    await Deno.remove(folder, { recursive: true });
  }
}

function findBinaries(): string | undefined {
  try {
    const versions = [...Deno.readDirSync("/usr/lib/postgresql")].map((entry) => entry.name);
    const latest = versions.sort((a, b) => Number(b) - Number(a))[0];
    return latest === undefined ? undefined : `/usr/lib/postgresql/${latest}/bin`;
  } catch {
    return undefined;
  }
}
