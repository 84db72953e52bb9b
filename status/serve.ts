/** The app on a port of this machine. */
import { UserError } from "../errors.ts";
import { type AppOptions, createApp } from "./app.ts";

export interface ServeOptions extends Omit<AppOptions, "signal"> {
  /** Default 127.0.0.1: only this machine. `0.0.0.0` listens on every interface. */
  host?: string;
  /** Default 8080; 0 takes any free port. */
  port?: number;
}

export interface StatusServer {
  /** Where it listens, such as `http://127.0.0.1:8080/`. */
  url: string;
  /** Settles when the server has stopped. */
  finished: Promise<void>;
  /** Ends open streams and stops listening. */
  shutdown(): Promise<void>;
}

/**
 * Starts to serve; returns as soon as the port is open.
 *
 * @throws UserError where the port is busy, not allowed, or the host is not an address of this machine
 */
export function serveStatus(options: ServeOptions): StatusServer {
  const { host = "127.0.0.1", port = 8080, ...rest } = options;
  const stop = new AbortController();
  const app = createApp({ ...rest, signal: stop.signal });
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve({ hostname: host, port, onListen: () => {} }, (r) => app.fetch(r));
  } catch (cause) {
    throw cannotListen(host, port, cause);
  }
  const { hostname, port: taken } = server.addr;
  return {
    url: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${taken}/`,
    finished: server.finished,
    shutdown: async () => {
      stop.abort();
      await server.shutdown();
    },
  };
}

function cannotListen(host: string, port: number, cause: unknown): unknown {
  const what = `serving the status page on ${host}:${port}`;
  if (cause instanceof Deno.errors.AddrInUse) {
    return new UserError(
      `${what}: another program uses this port. Choose another with --port, such as ` +
        `--port ${port < 65535 ? port + 1 : 8080}, or --port 0 for any that is free`,
      { cause },
    );
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return new UserError(
      `${what}: this user may not open that port. Choose one from 1024 on with --port`,
      { cause },
    );
  }
  if (cause instanceof Deno.errors.AddrNotAvailable) {
    return new UserError(
      `${what}: ${host} is not an address of this machine. Use --host 127.0.0.1 for this machine ` +
        `alone or --host 0.0.0.0 for all its networks`,
      { cause },
    );
  }
  if (cause instanceof RangeError || cause instanceof TypeError) {
    return new UserError(`${what}: a port is a whole number from 0 to 65535`, {
      exitCode: 2,
      cause,
    });
  }
  return cause;
}
