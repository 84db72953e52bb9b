/** The API as its users see it: the official `openai` client over a socket on this machine. */
import assert from "node:assert/strict";
import OpenAI, { APIError } from "openai";
import { UserError } from "../errors.ts";
import { useBackend } from "../xla/mod.ts";
import { Generator } from "./generate.ts";
import type { Model } from "./model.ts";
import type { Generation } from "./requests.ts";
import { RemoteGenerator } from "./remote.ts";
import { serveModel } from "./server.ts";
import { maxDifference, tinyConfig } from "./test_support.ts";
import { charTokenizer } from "./small_tokenizers.ts";
import { Tokenizer } from "./tokenizer.ts";
import { initParams } from "./transformer.ts";

await useBackend();

const plain = charTokenizer("abcdefghij .?").files;
const template = "{% for m in messages %}{{ m['content'] }}{% endfor %}" +
  "{% if add_generation_prompt %}?{% endif %}";
const tokenizer = new Tokenizer({ ...plain, "chat_template.jinja": template });
const config = tinyConfig({
  vocab_size: tokenizer.vocabSize,
  max_position_embeddings: 128,
  initializer_range: 0.3,
  eos_token_id: 1,
});
const model: Model = { config, params: initParams(config, 7), tokenizer, generationConfig: {} };

async function serving(body: (url: string) => Promise<void>, apiKey?: string): Promise<void> {
  using served = serveModel(model, {
    name: "tiny",
    slots: 3,
    maxLength: 64,
    ...(apiKey === undefined ? {} : { apiKey }),
  });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, served.fetch);
  try {
    await body(`http://127.0.0.1:${server.addr.port}`);
  } finally {
    await server.shutdown();
  }
}

const clientOf = (url: string, apiKey = "none") =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

/** What this program generates by itself for the same request. */
async function local(prompt: string, seed: number, n = 1, maxNewTokens = 12) {
  using generator = new Generator(model, { slots: 2, maxLength: 64 });
  const promptIds = tokenizer.encode(prompt);
  return (await generator.generate([{ promptIds, seed, n, maxNewTokens }]))[0]!;
}

async function refused(
  promise: Promise<unknown>,
  status: number,
  message: RegExp,
  param?: string,
): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof APIError, String(error));
    assert.equal(error.status, status);
    assert.match(error.message, message);
    if (param !== undefined) assert.equal(error.param, param);
    return true;
  });
}

Deno.test("completions: text, log-probabilities, n and seed are those of the generator", async () => {
  await serving(async (url) => {
    const openai = clientOf(url);
    const models = await openai.models.list();
    assert.deepEqual(models.data.map((each) => each.id), ["tiny"]);
    const request = { model: "tiny", prompt: "abc", seed: 5, n: 2, max_tokens: 12, logprobs: 1 };
    const answer = await openai.completions.create(request);
    const want = await local("abc", 5, 2);
    assert.equal(answer.object, "text_completion");
    for (const [i, choice] of answer.choices.entries()) {
      assert.equal(choice.index, i);
      assert.equal(choice.text, want[i]!.text);
      const logProbs = choice.logprobs!.token_logprobs!;
      assert.ok(maxDifference(logProbs, want[i]!.logProbs) < 1e-5);
      assert.deepEqual(choice.logprobs!.tokens, want[i]!.ids.map((id) => tokenizer.decode([id])));
      assert.equal(choice.finish_reason, want[i]!.finish);
    }
    const tokens = want.reduce((sum, sample) => sum + sample.ids.length, 0);
    assert.deepEqual(answer.usage, {
      prompt_tokens: 3,
      completion_tokens: tokens,
      total_tokens: 3 + tokens,
    });
    const again = await openai.completions.create(request);
    assert.deepEqual(again.choices, answer.choices);
    const several = await openai.completions.create({ ...request, prompt: ["abc", "d"] });
    assert.deepEqual(several.choices.slice(0, 2), answer.choices);
    assert.deepEqual(several.choices.map((choice) => choice.index), [0, 1, 2, 3]);
    const byIds = await openai.completions.create({ ...request, prompt: tokenizer.encode("abc") });
    assert.deepEqual(byIds.choices, answer.choices);
  });
});

Deno.test("chat: the template, greedy answers, and log-probabilities a token", async () => {
  await serving(async (url) => {
    const answer = await clientOf(url).chat.completions.create({
      model: "tiny",
      messages: [
        { role: "system", content: "be" },
        { role: "user", content: [{ type: "text", text: "ad" }] },
      ],
      temperature: 0,
      max_completion_tokens: 10,
      logprobs: true,
    });
    using generator = new Generator(model, { slots: 1, maxLength: 64 });
    const promptIds = tokenizer.encode("bead?");
    const [[want]] = await generator.generate([
      { promptIds, temperature: 0, maxNewTokens: 10 },
    ]) as [[{ ids: number[]; text: string; logProbs: number[] }]] & unknown[];
    const choice = answer.choices[0]!;
    assert.equal(choice.message.role, "assistant");
    assert.equal(choice.message.content, want.text);
    const logProbs = choice.logprobs!.content!.map((each) => each.logprob);
    assert.ok(maxDifference(logProbs, want.logProbs) < 1e-5);
    const bytes = choice.logprobs!.content!.flatMap((each) => each.bytes!);
    const written = want.ids.map((id) => tokenizer.decode([id])).join("");
    assert.equal(new TextDecoder().decode(new Uint8Array(bytes)), written);
  });
});

Deno.test("streams: the pieces add up to the answer, several clients at a time", async () => {
  await serving(async (url) => {
    const openai = clientOf(url);
    await Promise.all([1, 2, 3, 4, 5].map(async (seed) => {
      const base = { model: "tiny", seed, max_tokens: 12 + seed };
      const stream = await openai.completions.create({ ...base, prompt: "abc", stream: true });
      let text = "";
      let finish: string | null = null;
      for await (const chunk of stream) {
        text += chunk.choices[0]!.text;
        finish = chunk.choices[0]!.finish_reason ?? finish;
      }
      const [want] = await local("abc", seed, 1, 12 + seed);
      assert.equal(text, want!.text);
      assert.equal(finish, want!.finish);
    }));
    const chat = await openai.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: "ab" }],
      seed: 3,
      n: 2,
      max_tokens: 9,
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts = ["", ""];
    let usage = 0;
    const roles: (string | undefined)[] = [];
    for await (const chunk of chat) {
      usage = chunk.usage?.completion_tokens ?? usage;
      for (const choice of chunk.choices) {
        if (choice.delta.role !== undefined) roles.push(choice.delta.role);
        texts[choice.index]! += choice.delta.content ?? "";
      }
    }
    const want = await local("ab?", 3, 2, 9);
    assert.deepEqual(texts, want.map((sample) => sample.text));
    assert.deepEqual(roles, ["assistant", "assistant"]);
    assert.equal(usage, want.reduce((sum, sample) => sum + sample.ids.length, 0));
  });
});

Deno.test("a stop string ends the text before it, streamed or not", async () => {
  await serving(async (url) => {
    const openai = clientOf(url);
    const request = { model: "tiny", prompt: "ab", seed: 2, max_tokens: 40, ignore_eos: true };
    const whole = (await openai.completions.create(request)).choices[0]!.text;
    assert.ok(whole.length > 8, whole);
    const stop = whole.slice(4, 6);
    const want = whole.slice(0, whole.indexOf(stop));
    const cut = await openai.completions.create({ ...request, stop: [stop] });
    assert.equal(cut.choices[0]!.text, want);
    assert.equal(cut.choices[0]!.finish_reason, "stop");
    let text = "";
    for await (const chunk of await openai.completions.create({ ...request, stop, stream: true })) {
      text += chunk.choices[0]!.text;
    }
    assert.equal(text, want);
  });
});

Deno.test("what cannot be served is refused by name, as the client's errors", async () => {
  await serving(async (url) => {
    const openai = clientOf(url, "right");
    const ask = (change: object) =>
      openai.completions.create({ model: "tiny", prompt: "a", max_tokens: 4, ...change });
    await refused(clientOf(url).models.list(), 401, /API key is missing or wrong/);
    await refused(
      ask({ model: "big" }),
      404,
      /'big' does not exist here; there is 'tiny'/,
      "model",
    );
    await refused(openai.models.retrieve("big"), 404, /'big' does not exist here/, "model");
    assert.equal((await openai.models.retrieve("tiny")).id, "tiny");
    await refused(ask({ presence_penalty: 1 }), 400, /presence_penalty: is not supported/);
    await refused(ask({ logit_bias: { 5: 1 } }), 400, /logit_bias: is not supported/);
    await refused(ask({ nonsense: 1 }), 400, /nonsense/, "nonsense");
    await refused(ask({ temperature: -1 }), 400, /temperature/, "temperature");
    await refused(ask({ max_tokens: "many" }), 400, /max_tokens: .*expected number/, "max_tokens");
    await refused(ask({ prompt: [] }), 400, /prompt: must be a text, a list of texts/, "prompt");
    await refused(ask({ max_tokens: 1000 }), 400, /do not fit maxLength 64/);
    await refused(ask({ max_tokens: 1000, stream: true }), 400, /do not fit maxLength 64/);
    await refused(ask({ prompt: [99] }), 400, /token 99 is not in the vocabulary/);
    await refused(ask({ prompt: "ß" }), 400, /the alphabet has no/);
    await refused(openai.embeddings.create({ model: "tiny", input: "a" }), 404, /there is no POST/);
    const form = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { authorization: "Bearer right", "content-type": "text/plain" },
      body: "{}",
    });
    assert.equal(form.status, 415);
    assert.match((await form.json()).error.message, /application\/json/);
    assert.equal((await fetch(`${url}/health`)).status, 200);
  }, "right");
});

Deno.test("a client that leaves frees its slots", async () => {
  await serving(async (url) => {
    const openai = clientOf(url);
    // More than there are slots, each for as long as the cache allows.
    const leaving = Array.from({ length: 6 }, async (_, seed) => {
      const stream = await openai.completions.create({
        model: "tiny",
        prompt: "a",
        seed,
        max_tokens: 60,
        stream: true,
        ...{ ignore_eos: true },
      });
      for await (const _ of stream) break;
    });
    await Promise.all(leaving);
    const answer = await openai.completions.create({ model: "tiny", prompt: "abc", seed: 5 });
    const [want] = await local("abc", 5, 1, 16);
    assert.equal(answer.choices[0]!.text, want!.text);
  });
});

Deno.test("sampling from a server gives what sampling here gives", async () => {
  await serving(async (url) => {
    using remote = await RemoteGenerator.connect(url, { tokenizer, concurrency: 2 });
    using here = new Generator(model, { slots: 2, maxLength: 64 });
    const requests = ["abc", "d", "e f", "jj"].map((prompt, i) => ({
      promptIds: tokenizer.encode(prompt),
      n: 2,
      seed: 10 + i,
      temperature: 0.9,
      topK: i === 1 ? 5 : 0,
      topP: 0.95,
      maxNewTokens: 20,
      ...(i === 2 ? { stop: ["ab", "c"] } : {}),
      ...(i === 3 ? { stopIds: [] } : {}),
    }));
    const got = (await remote.generate(requests)).flat();
    const want = (await here.generate(requests)).flat();
    // The server's cache has another shape, which may change the last bit of a number.
    const rounded = (samples: Generation[]) =>
      samples.map(({ logProbs, ...rest }) => ({ ...rest, logProbs: logProbs.length }));
    assert.deepEqual(rounded(got), rounded(want));
    const all = (samples: Generation[]) => samples.flatMap(({ logProbs }) => logProbs);
    assert.ok(maxDifference(all(got), all(want)) < 1e-5);
    await assert.rejects(
      remote.generate([{ promptIds: [3], maxNewTokens: 1000 }]),
      (error) => error instanceof UserError && /refuses with 400/.test(error.message),
    );
    await assert.rejects(
      RemoteGenerator.connect(url, { model: "big" }),
      /no model 'big'; it has tiny/,
    );
  });
});

Deno.test("a server that fails now and then is asked again, one that gives no ids is refused", async () => {
  let asked = 0;
  const answers = (request: Request) => {
    if (request.url.endsWith("/models")) return Response.json({ data: [{ id: "m" }] });
    if (++asked % 3 !== 0) return new Response("busy", { status: 503 });
    return Response.json({ choices: [{ index: 0, text: "a", finish_reason: "stop" }] });
  };
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answers);
  try {
    using remote = await RemoteGenerator.connect(`http://127.0.0.1:${server.addr.port}/v1/`, {
      retryDelay: 1,
    });
    await assert.rejects(remote.generate([{ promptIds: [1] }]), /gives no token ids/);
    assert.equal(asked, 3);
  } finally {
    await server.shutdown();
  }
  await assert.rejects(RemoteGenerator.connect("ftp://x"), /no http:\/\/ or https:\/\/ address/);
});
