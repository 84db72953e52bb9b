/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
// deno-lint-ignore-file jsx-key -- pages are written once on the server; nothing is reconciled
/**
 * Samples with their tokens coloured by V, or by implicit advantage: low is orange, the middle has no
 * colour, high is blue (a pair told apart with any colour vision). Colours are classes of 21 steps
 * (`v0` … `v20`, `a0` … `a20`), switched by radio buttons in CSS alone.
 */
import { methodTitle, type Sample } from "./data.ts";

const STEPS = 20;

/** The rules of the token classes. V's scale is [0, 1]; the middle is 0.5. */
export function tokenColours(): string {
  const rules: string[] = [];
  for (let step = 0; step <= STEPS; step++) {
    const signed = (2 * step) / STEPS - 1;
    const alpha = (0.7 * Math.abs(signed)).toFixed(3);
    const colour = `rgba(var(${signed < 0 ? "--low" : "--high"}), ${alpha})`;
    rules.push(
      `body:not(:has(#colour-advantage:checked)) .v${step} { background: ${colour} }`,
      `body:has(#colour-advantage:checked) .a${step} { background: ${colour} }`,
    );
  }
  return rules.join("\n");
}

/** The colour class for x in [-1, 1], or none where x was not read. */
function colourClass(prefix: "v" | "a", x: number | null): string[] {
  if (x === null || Number.isNaN(x)) return [];
  const clipped = Math.min(1, Math.max(-1, x));
  return [`${prefix}${Math.round(((clipped + 1) / 2) * STEPS)}`];
}

/** The 95th percentile of |advantage|: a single outlier must not wash out all other tokens. */
function advantageScale(samples: readonly Sample[]): number {
  const sizes = samples.flatMap((s) => s.advantages ?? []).map((a) =>
    a === null ? NaN : Math.abs(a)
  )
    .filter((x) => Number.isFinite(x)).sort((a, b) => a - b);
  return sizes[Math.floor(0.95 * (sizes.length - 1))] || 1;
}

/** A figure with three digits after the point and a true minus sign; `plus` is put before the rest. */
function figure(x: number | null, plus: string): string {
  if (x === null || Number.isNaN(x)) return "none";
  return `${x < 0 ? "\u2212" : plus}${Math.abs(x).toFixed(3)}`;
}
const signed = (x: number | null) => figure(x, "+");
const plain = (x: number | null) => figure(x, "");

export function Samples({ samples }: { samples: readonly Sample[] }) {
  const scale = advantageScale(samples);
  const withAdvantages = samples.some((s) => s.advantages !== undefined);
  const correct = samples.filter((s) => s.correct).length;
  return (
    <section aria-labelledby="samples">
      <h2 id="samples">Samples, coloured by value</h2>
      <p>
        Each token's background shows V of the text up to and including it: the value model's
        estimate of the chance that the solution ends in success. Point at a token, or move along
        the tokens of a focused sample with the arrow keys, for its figures.
      </p>
      <div class="controls">
        <fieldset>
          <legend>Show</legend>
          <label>
            <input type="radio" name="show" id="show-all" checked />all {samples.length}
          </label>
          <label>
            <input type="radio" name="show" id="show-correct" />correct {correct}
          </label>
          <label>
            <input type="radio" name="show" id="show-wrong" />wrong {samples.length - correct}
          </label>
        </fieldset>
        {withAdvantages && (
          <fieldset>
            <legend>Colour by</legend>
            <label>
              <input type="radio" name="colour" id="colour-value" checked />V
            </label>
            <label>
              <input type="radio" name="colour" id="colour-advantage" />implicit advantage
            </label>
          </fieldset>
        )}
        <span class="scale of-value">
          0 <i></i> 1
        </span>
        <span class="scale of-advantage">
          {plain(-scale)} <i></i> {signed(scale)}
        </span>
      </div>
      {samples.map((sample, i) => <SampleCard sample={sample} index={i} scale={scale} />)}
      <div id="tip" role="status" hidden></div>
    </section>
  );
}

function SampleCard(
  { sample, index, scale }: { sample: Sample; index: number; scale: number },
) {
  const id = `sample-${index + 1}`;
  return (
    <article class={`sample ${sample.correct ? "is-correct" : "is-wrong"}`} aria-labelledby={id}>
      <header>
        <h3 id={id}>{sample.query}</h3>
        <span class={`badge ${sample.correct ? "good" : "bad"}`}>
          {sample.correct ? "✓ correct" : "✗ wrong"}
        </span>
        <span>
          {methodTitle(sample.method)}
          {sample.iteration !== undefined && sample.iteration > 0
            ? `, iteration ${sample.iteration}`
            : ""}
        </span>
        <span>
          answer <b class="mono">{sample.answer ?? "none found"}</b>, right answer{" "}
          <b class="mono">{sample.gold}</b>
        </span>
        {sample.promptValue !== undefined && (
          <span class="soft">V of the prompt {plain(sample.promptValue)}</span>
        )}
      </header>
      <p class="prompt mono">{sample.prompt}</p>
      <p class="tokens" tabindex={0} role="group" aria-label={`Response of ${sample.query}`}>
        {sample.tokens.map((token, t) => {
          const value = sample.values[t]!;
          const advantage = sample.advantages?.[t];
          const classes = [
            ...colourClass("v", value === null ? null : 2 * value - 1),
            ...(advantage === undefined
              ? []
              : colourClass("a", advantage === null ? null : advantage / scale)),
            ...(token.includes("\n") ? ["nl"] : []),
          ];
          return (
            <span
              class={classes.join(" ")}
              data-v={plain(value)}
              data-a={advantage === undefined ? undefined : signed(advantage)}
            >
              {token}
            </span>
          );
        })}
      </p>
    </article>
  );
}
