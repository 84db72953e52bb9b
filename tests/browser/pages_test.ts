import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { renderReport } from "../../report/mod.ts";
import { testReport } from "../../report/testdata.ts";
import { serveStatus } from "../../status/mod.ts";
import { done, halfway, started, testJournal } from "../../status/testdata.ts";
import { findBrowser, sticksOut, withBrowser } from "./browser.ts";

const browser = findBrowser();

function test(name: string, body: (executable: string) => Promise<void>) {
  Deno.test({
    name,
    ignore: browser === undefined,
    // The driver keeps timers and pipes of its own beyond a test.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () => body(browser!),
  });
}

async function withReport(body: (url: string) => Promise<void>) {
  const folder = await Deno.makeTempDir();
  const file = join(folder, "report.html");
  await writeFile(file, renderReport(testReport()));
  try {
    await body(pathToFileURL(file).href);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

test("the report opens from a file without errors, in light, dark and on a phone", (executable) =>
  withBrowser(executable, (open) =>
    withReport(async (url) => {
      for (
        const options of [{}, { colorScheme: "dark" as const }, { width: 400 }, {
          javaScript: false,
        }]
      ) {
        const { page, assertClean } = await open(options);
        const requests: string[] = [];
        page.on("request", (request) => requests.push(request.url()));
        await page.goto(url);
        assert.ok(await page.getByRole("heading", { name: "Results" }).isVisible());
        assert.deepEqual(requests.filter((r) => !r.startsWith("data:")), [url]);
        if (options.javaScript !== false) assert.equal(await sticksOut(page), false);
        assertClean();
      }
    })));

test("pointing at a token, or moving by keys, tells its value and advantage", (executable) =>
  withBrowser(executable, (open) =>
    withReport(async (url) => {
      const { page, assertClean } = await open();
      await page.goto(url);
      const sample = testReport().samples[0]!;
      const article = page.locator("article.sample").first();
      const tip = page.locator("#tip");
      assert.equal(await tip.isVisible(), false);
      await article.locator(".tokens span").nth(2).hover();
      assert.match(
        await tip.innerText(),
        new RegExp(`token " "\\nV ${sample.values[2]!.toFixed(3)}\\nimplicit advantage`),
      );
      await article.locator(".tokens").focus();
      await page.keyboard.press("End");
      assert.match(await tip.innerText(), /token "9"/);
      await page.keyboard.press("ArrowLeft");
      assert.match(await tip.innerText(), /token "4"/);
      assertClean();
    })));

test("samples can be narrowed to wrong ones and coloured by advantage", (executable) =>
  withBrowser(executable, (open) =>
    withReport(async (url) => {
      const { page, assertClean } = await open();
      await page.goto(url);
      const shown = () => page.locator("article.sample:visible").count();
      assert.equal(await shown(), 4);
      await page.getByLabel(/^wrong/).check();
      assert.equal(await shown(), 2);
      const colours = () =>
        page.evaluate(
          "[...document.querySelectorAll('.is-wrong .tokens span')]" +
            ".map((span) => getComputedStyle(span).backgroundColor).join()",
        );
      const byValue = await colours();
      assert.match(String(byValue), /rgba\(213, 94, 0, 0\.\d+\)/);
      await page.getByLabel("implicit advantage").check();
      assert.notEqual(await colours(), byValue);
      assertClean();
    })));

async function withStatus(
  body: (url: string, t: Awaited<ReturnType<typeof testJournal>>) => Promise<void>,
) {
  const t = await testJournal();
  const server = serveStatus({ port: 0, journal: t.path });
  try {
    await body(server.url, t);
  } finally {
    await server.shutdown();
    await t.close();
  }
}

test("a run's page moves with the run, and ends with a link to the report", (executable) =>
  withBrowser(executable, (open) =>
    withStatus(async (url, t) => {
      const { page, assertClean } = await open();
      await page.goto(url);
      await page.getByText("no runs yet").waitFor();
      const writer = await t.begin("demo-1");
      halfway(writer, t.folder);
      await writer.flush();
      // The list finds the new run by itself.
      await page.getByRole("link", { name: "demo-1" }).click();
      await page.getByText("40 of 120 steps").waitFor();
      // What the reader opens and focuses stays so when the page moves.
      await page.locator("details summary").first().click();
      assert.equal(await page.locator("svg.plot").count(), 6);
      assert.equal(await page.locator("svg.graph .node title").count(), 15);
      assert.equal(await sticksOut(page), false);
      writer.append({
        type: "stage.metric",
        stage: "oreo.1",
        attempt: 1,
        step: 41,
        values: { new_metric: 1 },
      });
      writer.append({
        type: "stage.progress",
        stage: "oreo.1",
        attempt: 1,
        done: 77,
        total: 120,
        unit: "steps",
      });
      await writer.flush();
      await page.getByText("77 of 120 steps").waitFor();
      await page.getByText("New metric").waitFor();
      assert.ok(await page.getByText("Gradient norm").last().isVisible());
      assert.equal(await page.evaluate("document.activeElement.tagName"), "SUMMARY");

      await writeFile(join(t.folder, "report.html"), renderReport(testReport()));
      writer.append(done("oreo.1", 88));
      writer.append({ type: "run.done", seconds: 412, values: { accuracy: 0.71 } });
      await writer.close();
      await page.getByRole("link", { name: "Open the report" }).click();
      await page.getByRole("heading", { name: "Samples, coloured by value" }).waitFor();
      await page.locator(".tokens span").first().hover();
      assert.match(await page.locator("#tip").innerText(), /V 0\.\d{3}/);
      assertClean();
    })));

test("the pages are whole without scripts, in dark and on a phone", (executable) =>
  withBrowser(executable, (open) =>
    withStatus(async (url, t) => {
      const writer = await t.begin("demo-1");
      halfway(writer, t.folder);
      await writer.close();
      const other = await t.begin("demo-2");
      other.append(started(t.folder));
      await other.close();
      const { page, assertClean } = await open({
        javaScript: false,
        colorScheme: "dark",
        width: 400,
      });
      await page.goto(url);
      await page.getByRole("link", { name: "demo-1" }).click();
      await page.getByRole("link", { name: "sft" }).first().click();
      assert.ok(await page.getByRole("heading", { name: "Training curves" }).isVisible());
      assert.equal(await page.locator("svg.plot").count(), 2);
      assertClean();
    })));
