/**
 * A real S3 server for tests: versitygw, from PATH or the environment variable VERSITYGW (get it by
 * `go install github.com/versity/versitygw/cmd/versitygw@latest`).
 */
import { createServer } from "node:net";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";

export interface S3Server {
  /** A store location in a bucket of its own. */
  readonly location: string;
  /** The folder in which the server keeps the objects. */
  readonly objects: string;
}

const credentials = { accessKeyId: "tester", secretAccessKey: "tester-secret" };

/** Runs `body` with a fresh server; says so and returns where the machine has none. */
export async function withS3(body: (server: S3Server) => Promise<void>): Promise<void> {
  const binary = Deno.env.get("VERSITYGW") ?? "versitygw";
  const port = await freePort();
  const folder = await Deno.makeTempDir({ prefix: "s3-" });
  let server: Deno.ChildProcess | undefined;
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
    await body({
      location: `s3://store/some/prefix?endpoint=${endpoint}`,
      objects: `${folder}/store/some/prefix`,
    });
  } finally {
    if (server !== undefined) {
      server.kill("SIGKILL");
      await server.status;
    }
    await Deno.remove(folder, { recursive: true });
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
