/**
 * The status of runs, over HTTP: pages for people, JSON with an OpenAPI description, server-sent events,
 * Prometheus metrics and health. It reads the journal and the reports that runs leave, so it works
 * beside a run in another process, before the first run and after the last, and never writes.
 *
 * `createApp({ journal }).fetch` is the handler for serverless hosts; `serveStatus` opens a port.
 */
export { type AppOptions, createApp } from "./app.ts";
export { type ServeOptions, serveStatus, type StatusServer } from "./serve.ts";
