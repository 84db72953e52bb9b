/**
 * A game file (`game.tw-pddl`): JSON with a PDDL domain and problem, a grammar and the recorded way to
 * win. Loading reads and checks it; what play needs is prepared at the first use and kept. Files with
 * the same content share all of it: a game that is played several times is read once.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { UserError } from "../../errors.ts";
import { type Commands, commandsOf } from "./commands.ts";
import { type Domain, domainOf } from "./domain.ts";
import { type Grammar, grammarOf } from "./grammar.ts";
import { ground, type Grounding } from "./ground.ts";
import { displayNames } from "./names.ts";
import { parseProblem, type Problem } from "./problem.ts";
import { quoted, Source } from "./source.ts";
import { Teller } from "./telling.ts";

/** What play needs of a game, the same in every state. */
export interface Prepared {
  readonly grounding: Grounding;
  readonly commands: Commands;
  readonly teller: Teller;
}

/** What a file's content comes to. */
interface Content {
  readonly domain: Domain;
  readonly problem: Problem;
  readonly grammar: Grammar;
  readonly walkthrough: readonly string[];
  readonly solvable: boolean | undefined;
  prepared: Prepared | undefined;
}

/** Contents in use, by the hash of their text. */
const contents = new Map<string, WeakRef<Content>>();
const forgotten = new FinalizationRegistry<string>((hash) => {
  if (contents.get(hash)?.deref() === undefined) contents.delete(hash);
});

export class Game {
  readonly domain: Domain;
  readonly problem: Problem;
  readonly grammar: Grammar;
  /** Commands that win, as recorded in the file; they depend on its data version. */
  readonly walkthrough: readonly string[];
  /** Whether the file says that the game can be won; undefined where it says nothing. */
  readonly solvable: boolean | undefined;
  readonly #content: Content;

  /**
   * @param text the file's content
   * @param name what to call the file in messages
   * @throws {UserError} on anything malformed: the file, the line, what was expected
   */
  constructor(text: string, readonly name: string) {
    const hash = createHash("sha256").update(text).digest("base64");
    let content = contents.get(hash)?.deref();
    if (content === undefined) {
      content = read(text, name);
      contents.set(hash, new WeakRef(content));
      forgotten.register(content, hash);
    }
    this.#content = content;
    ({
      domain: this.domain,
      problem: this.problem,
      grammar: this.grammar,
      walkthrough: this.walkthrough,
      solvable: this.solvable,
    } = content);
  }

  /** @throws {UserError} where the grammar lacks what the domain needs */
  get prepared(): Prepared {
    return this.#content.prepared ??= this.about(() => this.#prepare());
  }

  /** Runs `work`; complaints about the grammar or the size of the problem then name the file. */
  about<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof UserError && !error.message.includes(this.name)) {
        throw new UserError(`${this.name}: ${error.message}`, { cause: error });
      }
      throw error;
    }
  }

  #prepare(): Prepared {
    const { domain, problem, grammar } = this;
    const grounding = ground(domain, problem);
    const mentioned = mentionedObjects(domain, problem);
    const names = displayNames(problem.objects, (object) => mentioned[object] === 1);
    const teller = new Teller(domain, grammar, grounding, problem, names);
    const facts = { truth: grounding.initial, denied: new Uint32Array(grounding.initial.length) };
    return { grounding, teller, commands: commandsOf(domain, grammar, grounding, teller, facts) };
  }
}

function read(text: string, name: string): Content {
  const file = new Source(name, text);
  const json = file.json();
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    file.fail(1, "an object with pddl_domain, pddl_problem and grammar");
  }
  const fields = json as Record<string, unknown>;
  const part = (key: string): Source => {
    const value = fields[key];
    if (typeof value === "string") return new Source(`${name}: ${key}`, value);
    const at = text.indexOf(JSON.stringify(key));
    return file.fail(
      at < 0 ? 1 : file.lineAt(at),
      `a text "${key}"`,
      value === undefined ? "none" : quoted(JSON.stringify(value)),
    );
  };
  const domain = domainOf(part("pddl_domain"));
  const problem = parseProblem(part("pddl_problem"), domain);
  const grammar = grammarOf(part("grammar"));
  const { walkthrough, solvable } = fields;
  return {
    domain,
    problem,
    grammar,
    walkthrough: Array.isArray(walkthrough) && walkthrough.every((each) => typeof each === "string")
      ? walkthrough
      : [],
    solvable: typeof solvable === "boolean" ? solvable : undefined,
    prepared: undefined,
  };
}

function mentionedObjects(domain: Domain, { init, objects }: Problem): Uint8Array {
  const arities = [...domain.predicates.values()].map((each) => each.arity);
  const mentioned = new Uint8Array(objects.length);
  for (let at = 0; at < init.length;) {
    const end = at + 1 + arities[init[at]!]!;
    for (at++; at < end; at++) mentioned[init[at]!] = 1;
  }
  return mentioned;
}

/** @throws {UserError} where the file cannot be read or is malformed */
export async function loadGame(path: string): Promise<Game> {
  return new Game(await readFile(path, "utf8").catch((error) => unreadable(path, error)), path);
}

/** As `loadGame`, without waiting. */
export function loadGameSync(path: string): Game {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    unreadable(path, error);
  }
  return new Game(text, path);
}

function unreadable(path: string, error: unknown): never {
  const { code } = error as NodeJS.ErrnoException;
  const reason = code === "ENOENT" ? "there is no such file" : (error as Error).message;
  throw new UserError(`cannot read the game ${path}: ${reason}`, { cause: error });
}
