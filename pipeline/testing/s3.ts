/**
 * A real S3 server for tests: versitygw, from PATH or the environment variable VERSITYGW (get it by
 * `go install github.com/versity/versitygw/cmd/versitygw@latest`).
 */
import { createServer } from "node:net";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { generator } from "./generated.ts";

export interface S3Server {
  /** A store location in a bucket of its own. */
  readonly location: string;
  /** The same through a connection that breaks at random. */
  readonly flaky: string;
  /** How often it has broken so far. */
  breaks(): number;
  /** The folder in which the server keeps the objects. */
  readonly objects: string;
}

/** On average. */
const BYTES_UNTIL_BREAK = 8_000;

const credentials = { accessKeyId: "tester", secretAccessKey: "tester-secret" };

/** Runs `body` with a fresh server; says so and returns where the machine has none. */
export async function withS3(body: (server: S3Server) => Promise<void>): Promise<void> {
  const binary = Deno.env.get("VERSITYGW") ?? "versitygw";
  const port = await freePort();
  const folder = await Deno.makeTempDir({ prefix: "s3-" });
  let server: Deno.ChildProcess | undefined;
  let proxy: Deno.TcpListener | undefined;
  try {
    try {
      server = new Deno.Command(binary, {
        args: ["--port", `127.0.0.1:${port}`, "--quiet", "posix", folder],
        env: {
          ROOT_ACCESS_KEY_ID: credentials.accessKeyId,
          ROOT_SECRET_ACCESS_KEY: credentials.secretAccessKey,
        },
        stdout: "null",
        stderr: "null",
      }).spawn();
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      console.log("skipped: no S3 server here (versitygw on PATH or in VERSITYGW)");
      return;
    }
    const endpoint = `http://127.0.0.1:${port}`;
    await untilReady(endpoint);
    Deno.env.set("AWS_ACCESS_KEY_ID", credentials.accessKeyId);
    Deno.env.set("AWS_SECRET_ACCESS_KEY", credentials.secretAccessKey);
    const client = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });
    await client.send(new CreateBucketCommand({ Bucket: "store" }));
    client.destroy();
    let breaks = 0;
    proxy = flakyProxy(port, generator(7), () => breaks++);
    await body({
      location: `s3://store/some/prefix?endpoint=${endpoint}`,
      flaky: `s3://store/flaky?endpoint=http://127.0.0.1:${proxy.addr.port}`,
      breaks: () => breaks,
      objects: `${folder}/store/some/prefix`,
    });
  } finally {
    proxy?.close();
    if (server !== undefined) {
      server.kill("SIGKILL");
      await server.status;
    }
    await Deno.remove(folder, { recursive: true });
  }
}

/** Passes connections on to a port; every so many bytes, in either direction, one breaks. */
function flakyProxy(port: number, random: () => number, onBreak: () => void): Deno.TcpListener {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const pass = async (from: Deno.Conn, to: Deno.Conn) => {
    let left = Math.floor(-Math.log(1 - random()) * BYTES_UNTIL_BREAK);
    const buffer = new Uint8Array(16_384);
    for (let count = await from.read(buffer); count !== null; count = await from.read(buffer)) {
      const some = buffer.subarray(0, Math.min(count, left));
      for (let done = 0; done < some.length;) done += await to.write(some.subarray(done));
      left -= count;
      if (left <= 0) return onBreak();
    }
  };
  (async () => {
    for await (const client of listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port });
      const close = () => [client, server].forEach((end) => closeQuietly(end));
      pass(client, server).catch(() => {}).finally(close);
      pass(server, client).catch(() => {}).finally(close);
    }
  })();
  return listener;
}

function closeQuietly(end: Deno.Conn): void {
  try {
    end.close();
  } catch {
    // The other direction has closed it.
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

async function untilReady(endpoint: string): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      await (await fetch(endpoint)).body?.cancel();
      return;
    } catch (error) {
      if (tries > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}
