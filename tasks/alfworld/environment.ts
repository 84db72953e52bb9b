/**
 * Playing a game, as the original environment does: a command that is not admissible answers "Nothing
 * happens."; the reward is 1 while the game is won; play may go on after that and undo it.
 */
import { contextOf } from "./commands.ts";
import type { Game } from "./game.ts";
import type { Symbol } from "./symbols.ts";
import { State } from "./state.ts";

/** What a player is told after a command. */
export interface Outcome {
  readonly observation: string;
  /** 1 while the game is won. */
  readonly reward: 0 | 1;
  /** Won, or out of steps. False before the first command. */
  readonly done: boolean;
  readonly won: boolean;
  /** Ascending, each once. */
  readonly admissibleCommands: readonly string[];
}

const intro: readonly Symbol[] = [{ kind: "rule", name: "intro" }];

export class Environment {
  readonly state: State;
  #steps = 0;
  #last: Outcome | undefined;

  /**
   * @param options.maxSteps after as many commands the game is done, and from then on (or once won)
   *   the last outcome is given again, as the Gym interface of the original does; no limit where left out
   * @throws {UserError} where the game's grammar lacks what it needs
   */
  constructor(readonly game: Game, readonly options: { maxSteps?: number } = {}) {
    this.state = new State(game);
  }

  /** Commands given since the start. */
  get steps(): number {
    return this.#steps;
  }

  /** Puts everything back to the start. @throws {UserError} where the grammar cannot be followed */
  reset(): Outcome {
    return this.game.about(() => this.#reset());
  }

  #reset(): Outcome {
    this.state.reset();
    this.#steps = 0;
    this.#last = undefined;
    const { teller } = this.game.prepared;
    return this.#outcome(teller.tell(intro, undefined, this.state), false);
  }

  /** Gives a command: blanks around it do not matter, upper and lower case do. @throws {UserError} as `reset` */
  step(command: string): Outcome {
    return this.game.about(() => this.#step(command));
  }

  #step(command: string): Outcome {
    const { maxSteps } = this.options;
    if (maxSteps !== undefined && this.#last?.done === true) return this.#last;
    const operator = this.state.operatorOf(pythonStrip(command));
    let observation = "Nothing happens.";
    if (operator >= 0) {
      const { domain, grammar, prepared: { grounding, teller } } = this.game;
      const action = domain.actions[grounding.actions[operator]!]!;
      this.state.apply(operator);
      const { feedback } = grammar.actions.get(action.name)!;
      observation = teller.tell(feedback, contextOf(domain, grounding, operator), this.state);
    }
    this.#steps++;
    const over = maxSteps !== undefined && this.#steps >= maxSteps;
    return this.#last = this.#outcome(observation, this.state.won || over);
  }

  #outcome(observation: string, done: boolean): Outcome {
    const { won } = this.state;
    const admissibleCommands = this.state.admissibleCommands();
    return { observation, reward: won && this.#steps > 0 ? 1 : 0, done, won, admissibleCommands };
  }

  /**
   * What holds, in readable form and ascending: `inreceptacle(mug 1, desk 2)`, and `not_` before what
   * an action made false.
   */
  facts(): string[] {
    return this.state.describe();
  }
}

/**
 * What Python's `str.strip` takes for a blank, which is not what JavaScript does: ASCII's separators and
 * U+0085 are, the byte order mark is not.
 */
// deno-lint-ignore no-control-regex -- Python counts these among the blanks
const blank = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** As Python's `str.strip`. */
function pythonStrip(text: string): string {
  let start = 0, end = text.length;
  while (start < end && blank.test(text[start]!)) start++;
  while (start < end && blank.test(text[end - 1]!)) end--;
  return text.slice(start, end);
}
