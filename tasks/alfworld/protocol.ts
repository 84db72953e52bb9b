/**
 * How a game is put to a language model and its turns are read: the protocol of the OREO paper, that of
 * ETO (arXiv 2403.02502), whose demonstrations the paper uses, and a terse one for small models.
 */
import type { ChatMessage } from "../task.ts";
import { parseGoal } from "./expert.ts";
import { etoInstruction, example, oreoInstruction } from "./prompts.ts";

export const protocolNames = ["oreo", "eto", "terse"] as const;
export type ProtocolName = typeof protocolNames[number];

export interface Protocol {
  /** What stands before every game; `examples` of them worked. */
  opening(examples: 0 | 1): ChatMessage[];
  /** Worked examples in front where nothing else is asked for. */
  readonly examples: 0 | 1;
  /** The game's first text as the model is told it. */
  start(observation: string): string;
  /** An observation as the model is told it. */
  answer(observation: string): string;
  /** The command in a turn; undefined where it has none. */
  commandOf(turn: string): string | undefined;
  /** What a turn without a command is told; undefined where it ends the episode. */
  readonly noCommand: string | undefined;
  /** A demonstrated turn. */
  turn(thought: string, command: string): string;
}

const welcome = "-= Welcome to TextWorld, ALFRED! =-\n\n";

/** Both published agents leave out where they arrived, in the older data's wording of it only. */
function withoutLocation(observation: string): string {
  if (!observation.startsWith("You arrive at loc ")) return observation;
  return observation.slice(observation.indexOf(". ") + 2);
}

function instructed(instruction: string): (examples: 0 | 1) => ChatMessage[] {
  return (examples) => [
    { role: "user", content: instruction },
    { role: "assistant", content: "OK" },
    ...(examples === 1 ? example : []),
  ];
}

const reAct = (thought: string, command: string) => `Thought: ${thought}\nAction: ${command}`;

const oreo: Protocol = {
  opening: instructed(oreoInstruction),
  examples: 0,
  start: (text) => text.startsWith(welcome) ? text.slice(welcome.length) : text,
  answer: (text) => `Observation: ${withoutLocation(text)}`,
  commandOf: (turn) => turn.trim().split("Action: ")[1],
  noCommand: undefined,
  turn: reAct,
};

const eto: Protocol = {
  opening: instructed(etoInstruction),
  examples: 1,
  start: (text) => text.split("\n\n").slice(1).join("\n"),
  answer: oreo.answer,
  commandOf: (turn) => /Action:\s?(.*)/s.exec(turn.trim())?.[1],
  noCommand: "Observation: Error Input. Your input must contains 'Action: '",
  turn: reAct,
};

/** A list of things as bare names. */
const bare = (list: string) => list.replaceAll(/\b(?:an?|and) /g, "");

/** What a goal comes down to, in a fixed form: what to do, the object, the place. */
function briefly(task: string): string {
  const goal = parseGoal(task);
  if (goal === undefined) return task;
  const verb = goal.type.split("_")[1] === "and" ? "put" : goal.type.split("_")[1];
  return `${goal.type.startsWith("look") ? "look" : verb} ${goal.object} ${goal.target}`;
}

/**
 * The least that a player has to know; the turn is the command. Every name has a blank before it, so
 * that it is the same token everywhere.
 */
const terse: Protocol = {
  opening: () => [],
  examples: 0,
  start(text) {
    const seen = /you see (.*)\.\n/.exec(text)?.[1] ?? "nothing";
    const task = /Your task is to: (.*?)\.?$/m.exec(text)?.[1] ?? "";
    return `see ${bare(seen)}.\n${briefly(task)}.`;
  },
  answer(text) {
    const seen = /you see (.*)\.$/.exec(text)?.[1];
    if (seen !== undefined) return `see ${bare(seen)}.`;
    if (text.endsWith(" is closed.")) return "closed.";
    return text === "Nothing happens." ? "no." : "ok.";
  },
  commandOf: (turn) => turn,
  noCommand: undefined,
  turn: (_, command) => command,
};

export const protocols: Readonly<Record<ProtocolName, Protocol>> = { oreo, eto, terse };
