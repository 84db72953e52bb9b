/**
 * Random programs on the xla backend against tfjs's cpu backend: values, shapes, dtypes and gradients.
 * FUZZ_CASES (default 2,000) and FUZZ_SEED (default 1) choose them; a failing program is printed as small
 * as it was found to be, and runs as printed.
 */
import assert from "node:assert/strict";
import { jit, tf, useBackend } from "../../xla/mod.ts";
import { type Program, programText, randomProgram, shrink, tensorOf, valuesOf } from "./program.ts";

const setting = (name: string, fallback: number) => Number(Deno.env.get(name) || fallback);
const CASES = setting("FUZZ_CASES", 2000);
const SEED = setting("FUZZ_SEED", 1);
/** Every so many cases run outside jit too, an operation at a time. */
const EAGER = 4;

interface Answer {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly values: readonly number[];
  /** Of each float input, where the program has a derivative. */
  readonly gradients: readonly (readonly number[])[] | undefined;
}

type Tensors = tf.Tensor[];

const lastOf = (program: Program, inputs: Tensors) => valuesOf(program, inputs).at(-1)!;

/** A scalar that every element of the result and of each input takes part in. */
function loss(program: Program, inputs: Tensors): tf.Scalar {
  const y = tf.cast(lastOf(program, inputs), "float32");
  const weights = tf.reshape(tf.cos(tf.range(0, y.size, 1, "float32")), y.shape);
  const touched = inputs.filter((x) => x.dtype === "float32").map((x) => tf.mul(tf.sum(x), 0.125));
  return touched.reduce((sum, x) => tf.add(sum, x), tf.sum(tf.mul(y, weights))) as tf.Scalar;
}

function gradientsOf(program: Program, inputs: Tensors): Tensors {
  const floats = inputs.flatMap((x, i) => x.dtype === "float32" ? [i] : []);
  if (floats.length === 0) return [];
  return tf.grads((...xs: Tensors) => {
    const all = [...inputs];
    floats.forEach((at, k) => all[at] = xs[k]!);
    return loss(program, all);
  })(floats.map((i) => inputs[i]!));
}

function answerOf(program: Program, how: "plain" | "jit", wantsGradients: boolean): Answer {
  return tf.tidy(() => {
    const both = (...inputs: Tensors) => ({
      y: lastOf(program, inputs),
      gradients: wantsGradients ? gradientsOf(program, inputs) : [],
    });
    const inputs = program.inputs.map(tensorOf);
    const { y, gradients } = (how === "jit" ? jit(both, { name: "fuzz" }) : both)(...inputs);
    return {
      shape: y.shape,
      dtype: y.dtype,
      values: [...y.dataSync()],
      gradients: wantsGradients ? gradients.map((g) => [...g.dataSync()]) : undefined,
    };
  });
}

/**
 * The answer of tfjs's cpu backend; without gradients where tfjs cannot take them, as through integers for
 * some operations (it refuses gradients that are not float32).
 */
function reference(program: Program): Answer {
  try {
    return answerOf(program, "plain", true);
  } catch {
    return answerOf(program, "plain", false);
  }
}

function hasGradients(program: Program): boolean {
  try {
    return reference(program).gradients !== undefined;
  } catch {
    return false;
  }
}

function differs(found: readonly number[], want: readonly number[]): string | undefined {
  if (found.length !== want.length) return `${found.length} elements, not ${want.length}`;
  const scale = want.reduce(
    (most, x) => Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most,
    1,
  );
  for (const [i, x] of want.entries()) {
    const same = Object.is(found[i], x) || Math.abs(found[i]! - x) <= 1e-3 * scale;
    if (!same) return `element ${i} is ${found[i]}, cpu gives ${x}`;
  }
  return undefined;
}

function difference(found: Answer, want: Answer): string | undefined {
  if (`${found.shape}` !== `${want.shape}`) return `shape [${found.shape}], not [${want.shape}]`;
  if (found.dtype !== want.dtype) return `dtype ${found.dtype}, not ${want.dtype}`;
  const values = differs(found.values, want.values);
  if (values !== undefined) return values;
  for (const [i, gradient] of want.gradients?.entries() ?? []) {
    const wrong = differs(found.gradients![i]!, gradient);
    if (wrong !== undefined) return `gradient ${i}: ${wrong}`;
  }
  return undefined;
}

/** What xla gets wrong of a program, undefined where it agrees. Leaves the cpu backend active. */
async function problem(program: Program, how: "plain" | "jit"): Promise<string | undefined> {
  await useBackend("cpu");
  let want: Answer;
  try {
    want = reference(program);
  } catch (error) {
    return `cpu throws: ${(error as Error).message.split("\n")[0]}`;
  }
  await useBackend("xla");
  try {
    return difference(answerOf(program, how, want.gradients !== undefined), want);
  } catch (error) {
    return `it throws: ${(error as Error).message.split("\n")[0]}`;
  } finally {
    await useBackend("cpu");
  }
}

async function report(seed: number, program: Program, how: "plain" | "jit"): Promise<string> {
  const small = await shrink(program, async (p) => await problem(p, how) !== undefined);
  const where = how === "jit" ? "in jit" : "outside jit";
  return `case ${seed} ${where}: ${await problem(small, how)}\n${programText(small)}`;
}

// Thousands of programs that nobody needs again have no place in the user's cache.
const kept = Deno.env.get("XLA_PROGRAMS");
Deno.env.set("XLA_PROGRAMS", "off");
const { name } = await useBackend();
if (kept === undefined) Deno.env.delete("XLA_PROGRAMS");
else Deno.env.set("XLA_PROGRAMS", kept);

Deno.test({
  name: `${CASES} random programs give on xla what they give on cpu, gradients too`,
  ignore: name !== "xla",
  fn: async () => {
    const failures: string[] = [];
    const counts = { gradients: 0, lines: 0 };
    const seen = new Set<string>();
    for (let i = 0; i < CASES && failures.length < 10; i++) {
      const seed = SEED * 1_000_003 + i;
      await useBackend("cpu");
      const program = randomProgram(seed);
      counts.lines += program.lines.length;
      for (const line of program.lines) {
        for (const [, op] of line.matchAll(/tf\.((?:image\.)?\w+)\(/g)) seen.add(op!);
      }
      if (hasGradients(program)) counts.gradients++;
      const ways = i % EAGER === 0 ? ["jit", "plain"] as const : ["jit"] as const;
      for (const how of ways) {
        if (await problem(program, how) !== undefined) {
          failures.push(await report(seed, program, how));
        }
      }
    }
    console.log(
      `fuzz: ${CASES} programs, ${counts.lines} operations of ${seen.size} kinds, ` +
        `${counts.gradients} with gradients`,
    );
    assert.equal(failures.length, 0, `\n${failures.join("\n\n")}`);
    if (CASES >= 500) {
      assert.ok(seen.size >= 80, `only ${seen.size} kinds of operation`);
      assert.ok(counts.gradients >= CASES * 0.97, `only ${counts.gradients} with gradients`);
    }
  },
});

Deno.test("a seed is one program, and a failing one shrinks to the operation that fails", async () => {
  await useBackend("cpu");
  assert.deepEqual(randomProgram(7), randomProgram(7));
  const program: Program = {
    inputs: [{ data: [1, 2], shape: [2], dtype: "float32" }],
    lines: ["tf.add(v0, v0)", "tf.neg(v1)", "tf.square(v2)", "tf.exp(v0)", "tf.add(v3, v4)"],
  };
  const small = await shrink(
    program,
    (p) => Promise.resolve(p.lines.some((l) => /square/.test(l))),
  );
  assert.equal(
    programText(small),
    `const v0 = tf.tensor([-2, -4], [2], "float32");\nconst v1 = tf.square(v0);`,
  );
});
