import assert from "node:assert/strict";
import { createApp } from "./app.ts";
import { serveStatus } from "./serve.ts";
import { done, started, testJournal } from "./testdata.ts";
import type { EventBody } from "../pipeline/mod.ts";

interface Message {
  id: string | undefined;
  event: string | undefined;
  data: string;
}

/** Reads a response's server-sent events one by one. */
function reader(
  response: Response,
): { next(): Promise<Message | undefined>; cancel(): Promise<void> } {
  const body = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  return {
    async next() {
      while (true) {
        const end = text.indexOf("\n\n");
        if (end >= 0) {
          const block = text.slice(0, end);
          text = text.slice(end + 2);
          const field = (name: string) =>
            block.split("\n").find((l) => l.startsWith(`${name}: `))?.slice(name.length + 2);
          const data = field("data");
          if (data === undefined) continue;
          return { id: field("id"), event: field("event"), data };
        }
        const { done, value } = await body.read();
        if (done) return undefined;
        text += value;
      }
    },
    cancel: () => body.cancel(),
  };
}

const metric = (step: number): EventBody => ({
  type: "stage.metric",
  stage: "sft",
  attempt: 1,
  step,
  values: { loss: 1 / step },
});

Deno.test("events arrive as they are written, and the stream ends with the run", async () => {
  const t = await testJournal();
  const app = createApp({ journal: t.path });
  const writer = await t.begin("r1");
  writer.append(started(t.folder));
  await writer.flush();
  const response = await app.request("/api/runs/r1/events");
  assert.match(response.headers.get("content-type")!, /text\/event-stream/);
  const messages = reader(response);
  assert.equal(JSON.parse((await messages.next())!.data).type, "run.started");
  writer.append(metric(1));
  await writer.flush();
  const point = await messages.next();
  assert.equal(point!.id, "2");
  assert.deepEqual(JSON.parse(point!.data).values, { loss: 1 });
  writer.append({ type: "run.done", seconds: 1, values: {} });
  await writer.flush();
  assert.equal(JSON.parse((await messages.next())!.data).type, "run.done");
  assert.equal((await messages.next())!.event, "end");
  assert.equal(await messages.next(), undefined);
  await writer.close();
  await t.close();
});

Deno.test("a client that comes back goes on after the last event it saw", async () => {
  const t = await testJournal();
  const app = createApp({ journal: t.path });
  const writer = await t.begin("r1");
  writer.append(started(t.folder));
  for (let step = 1; step <= 5; step++) writer.append(metric(step));
  await writer.flush();
  const resumed = await app.request("/api/runs/r1/events?after=1", {
    headers: { "last-event-id": "4" },
  });
  const messages = reader(resumed);
  assert.deepEqual([(await messages.next())!.id, (await messages.next())!.id], ["5", "6"]);
  await messages.cancel();
  const after = reader(await app.request("/api/runs/r1/events?after=5"));
  assert.equal((await after.next())!.id, "6");
  await after.cancel();
  writer.append({ type: "run.done", seconds: 1, values: {} });
  await writer.close();
  const over = await app.request("/api/runs/r1/events", { headers: { "last-event-id": "7" } });
  assert.equal(over.status, 204);
  await t.close();
});

Deno.test("a stream can be narrowed to stages and types", async () => {
  const t = await testJournal();
  const app = createApp({ journal: t.path });
  const writer = await t.begin("r1");
  writer.append(started(t.folder));
  writer.append(metric(1));
  writer.append({ type: "stage.log", stage: "sft", attempt: 1, text: "a", level: "info" });
  writer.append({ type: "stage.log", stage: "score.1", attempt: 1, text: "b", level: "info" });
  writer.append(done("sft", 1));
  writer.append({ type: "run.done", seconds: 1, values: {} });
  await writer.close();
  const ids = async (query: string) => {
    const messages = reader(await app.request(`/api/runs/r1/events?${query}`));
    const ids: (string | undefined)[] = [];
    for (let m = await messages.next(); m !== undefined; m = await messages.next()) {
      if (m.event !== "end") ids.push(m.id);
    }
    return ids;
  };
  assert.deepEqual(await ids("types=stage.log,stage.done"), ["3", "4", "5"]);
  assert.deepEqual(await ids("stage=sft"), ["2", "3", "5"]);
  assert.deepEqual(await ids("stage=sft&types=stage.log"), ["3"]);
  await t.close();
});

Deno.test("a server serves, ends open streams when it stops, and names a busy port", async () => {
  const t = await testJournal();
  const writer = await t.begin("r1");
  writer.append(started(t.folder));
  await writer.flush();
  const server = serveStatus({ port: 0, journal: t.path });
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
  const port = Number(new URL(server.url).port);
  assert.throws(
    () => serveStatus({ port, journal: t.path }),
    (error: Error) => error.name === "UserError" && error.message.includes(`--port ${port + 1}`),
  );
  assert.throws(() => serveStatus({ port: 70000, journal: t.path }), /a port is a whole number/);
  assert.throws(
    () => serveStatus({ host: "192.0.2.1", port: 0, journal: t.path }),
    /not an address of this machine/,
  );
  const messages = reader(await fetch(`${server.url}api/runs/r1/events`));
  assert.equal((await messages.next())!.id, "1");
  await server.shutdown();
  assert.equal(await messages.next(), undefined);
  await server.finished;
  await writer.close();
  await t.close();
});
