/**
 * A browser for tests: Debian's Chromium, or whatever `CHROMIUM` names, driven by playwright-core.
 * Where there is none the tests that need it say so and are skipped.
 */
import { execFileSync } from "node:child_process";
import assert from "node:assert/strict";
import { type Browser, chromium, type Page } from "playwright-core";

const CANDIDATES = ["chromium", "chromium-browser", "google-chrome"];

/** The path of a browser that starts, or undefined after a line that says what was looked for. */
export function findBrowser(): string | undefined {
  const named = Deno.env.get("CHROMIUM");
  for (const command of named === undefined ? CANDIDATES : [named]) {
    try {
      execFileSync(command, ["--version"], { stdio: "ignore" });
      return execFileSync("sh", ["-c", `command -v "$0"`, command], { encoding: "utf8" }).trim();
    } catch {
      continue;
    }
  }
  if (named !== undefined) throw new Error(`CHROMIUM is ${named}, which does not start`);
  console.log(
    `skipped: no browser for the tests of the pages (looked for ${CANDIDATES.join(", ")}; ` +
      `install Debian's chromium or set CHROMIUM to one)`,
  );
  return undefined;
}

export interface PageOptions {
  colorScheme?: "light" | "dark";
  width?: number;
  javaScript?: boolean;
}

/** A page that remembers what went wrong on it. */
export interface WatchedPage {
  page: Page;
  /** Fails where the page has logged an error or a warning, thrown, or failed to fetch something. */
  assertClean(): void;
}

export async function withBrowser(
  executable: string,
  body: (open: (options?: PageOptions) => Promise<WatchedPage>) => Promise<void>,
): Promise<void> {
  // Containers run tests as root, where Chromium's own sandbox cannot be had.
  const browser: Browser = await chromium.launch({
    executablePath: executable,
    args: ["--no-sandbox"],
  });
  try {
    await body(async (options = {}) => {
      const page = await browser.newPage({
        viewport: { width: options.width ?? 1200, height: 900 },
        colorScheme: options.colorScheme ?? "light",
        javaScriptEnabled: options.javaScript ?? true,
      });
      const problems: string[] = [];
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) problems.push(message.text());
      });
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("response", (r) => r.status() >= 400 && problems.push(`${r.status()} ${r.url()}`));
      page.on("requestfailed", (r) => {
        // Leaving a page ends its event stream; that is no failure.
        if (!r.url().includes("/events?")) problems.push(`failed ${r.url()}`);
      });
      return { page, assertClean: () => assert.deepEqual(problems, []) };
    });
  } finally {
    await browser.close();
  }
}

/** True where the page is wider than its window: something sticks out. */
export async function sticksOut(page: Page): Promise<boolean> {
  return await page.evaluate("document.documentElement.scrollWidth > innerWidth") as boolean;
}
