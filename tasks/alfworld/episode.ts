/** A game as an episode of a language model: turns read by a protocol, a bounded number of them. */
import type { Episode, EpisodeOutcome } from "../agent.ts";
import type { ChatMessage } from "../task.ts";
import { Environment } from "./environment.ts";
import type { Game } from "./game.ts";
import type { Protocol } from "./protocol.ts";

export interface EpisodeOptions {
  readonly protocol: Protocol;
  readonly examples: 0 | 1;
  readonly maxTurns: number;
}

export class GameEpisode implements Episode {
  readonly messages: readonly ChatMessage[];
  readonly #environment: Environment;
  #turns = 0;
  #outcome: EpisodeOutcome | undefined;

  constructor(game: Game, readonly options: EpisodeOptions) {
    const { protocol, examples } = options;
    this.#environment = new Environment(game);
    const { observation } = this.#environment.reset();
    this.messages = [
      ...protocol.opening(examples),
      { role: "user", content: protocol.start(observation) },
    ];
  }

  get outcome(): EpisodeOutcome | undefined {
    return this.#outcome;
  }

  act(turn: string): string | undefined {
    if (this.#outcome !== undefined) throw new Error("the episode is over: begin another one");
    const { protocol, maxTurns } = this.options;
    this.#turns++;
    const command = protocol.commandOf(turn);
    let answer = protocol.noCommand;
    if (command !== undefined) {
      const { won, observation } = this.#environment.step(command);
      if (won) return this.#end(true, "won");
      answer = protocol.answer(observation);
    }
    if (answer === undefined) return this.#end(false, "no command");
    return this.#turns >= maxTurns ? this.#end(false, "out of turns") : answer;
  }

  #end(success: boolean, reason: string): undefined {
    this.#outcome = { success, reason };
    return undefined;
  }
}
