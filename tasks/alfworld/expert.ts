/**
 * A player that knows no more than what it is told: it reads the first text, searches receptacle by
 * receptacle in the order in which they are named, and does what the goal asks with what it finds. Its
 * games are demonstrations that can be imitated, which a plan by one who sees everything is not.
 */
import type { TaskType } from "./generate.ts";

/** What a goal asks for. */
export interface Goal {
  readonly type: TaskType;
  /** Kind of object, e.g. `mug`. */
  readonly object: string;
  /** Kind of receptacle; of the lamp where the object is to be looked at. */
  readonly target: string;
}

const preparations: Readonly<Record<string, TaskType>> = {
  clean: "pick_clean_then_place_in_recep",
  heat: "pick_heat_then_place_in_recep",
  hot: "pick_heat_then_place_in_recep",
  cool: "pick_cool_then_place_in_recep",
};

/** Reads ALFWorld's goal texts; undefined for any other. */
export function parseGoal(text: string): Goal | undefined {
  const goal = (type: TaskType, [, object, target]: RegExpExecArray): Goal => ({
    type,
    object: object!,
    target: target!,
  });
  const prepared = /^put an? (clean|hot|cool) (\w+) in (\w+)/.exec(text) ??
    /^(clean|heat|cool) some (\w+) and put it in (\w+)/.exec(text);
  if (prepared !== null) {
    const [whole, how, object, target] = prepared;
    return goal(preparations[how!]!, [whole, object, target] as unknown as RegExpExecArray);
  }
  const two = /^put two (\w+) in (\w+)/.exec(text) ??
    /^find two (\w+) and put them in (\w+)/.exec(text);
  if (two !== null) return goal("pick_two_obj_and_place", two);
  const look = /^look at (\w+) under the (\w+)/.exec(text) ??
    /^examine the (\w+) with the (\w+)/.exec(text);
  if (look !== null) return goal("look_at_obj_in_light", look);
  const simple = /^put (?:an?|some) (\w+) (?:in|on) (\w+)/.exec(text);
  return simple === null ? undefined : goal("pick_and_place_simple", simple);
}

/** What is done to an object before it is put away, and with what. */
const tools: Partial<Record<TaskType, { verb: string; tool: string }>> = {
  pick_clean_then_place_in_recep: { verb: "clean", tool: "sinkbasin" },
  pick_heat_then_place_in_recep: { verb: "heat", tool: "microwave" },
  pick_cool_then_place_in_recep: { verb: "cool", tool: "fridge" },
};

interface Move {
  readonly thought: string;
  readonly command: string;
}

interface Receptacle {
  readonly name: string;
  /** What was last seen in it; undefined where it was never looked into. */
  content: string[] | undefined;
  closed: boolean;
  /** Something would not go in there. */
  refused: boolean;
}

const kindOf = (name: string) => name.slice(0, name.lastIndexOf(" "));
const thingsIn = (list: string) => list.match(/[a-z]+ \d+/g) ?? [];

export class Expert {
  readonly goal: Goal;
  readonly #receptacles: Receptacle[];
  #here: Receptacle | undefined;
  #holding: string | undefined;
  /** Objects that were prepared as the goal asks. */
  readonly #prepared = new Set<string>();
  /** Objects that are where they should be. */
  readonly #placed = new Set<string>();
  /** Kinds of receptacles of which one was found closed. */
  readonly #closedKinds = new Set<string>();
  /** Whether a lamp is on. */
  #lit = false;
  /** The game's word for putting. */
  #put = (object: string, place: string) => `move ${object} to ${place}`;

  /** @param intro the game's first text. @throws {RangeError} where it names no goal that is known */
  constructor(intro: string) {
    const task = /Your task is to: (.*?)\.?\s*$/m.exec(intro)?.[1];
    const goal = task === undefined ? undefined : parseGoal(task);
    if (goal === undefined) throw new RangeError(`no known goal in ${JSON.stringify(intro)}`);
    this.goal = goal;
    this.#receptacles = thingsIn(/you see (.*)\.\n/.exec(intro)?.[1] ?? "")
      .map((name) => ({ name, content: undefined, closed: false, refused: false }));
  }

  /** What to do next; undefined where nothing is left to try. */
  next(): Move | undefined {
    const { type, object, target } = this.goal;
    if (this.#holding !== undefined && kindOf(this.#holding) !== object) {
      return this.#layDown(this.#holding);
    }
    if (this.#holding === undefined) return this.#findAndTake(object);
    if (type === "look_at_obj_in_light") return this.#findAndUse(target);
    const tool = tools[type];
    if (tool !== undefined && !this.#prepared.has(this.#holding)) {
      return this.#prepare(this.#holding, tool);
    }
    return this.#putAway(this.#holding, target);
  }

  #goTo(place: Receptacle, why: string): Move {
    return { thought: `${why} I go to the ${place.name}.`, command: `go to ${place.name}` };
  }

  #open(place: Receptacle): Move {
    return {
      thought: `The ${place.name} is closed. I open it.`,
      command: `open ${place.name}`,
    };
  }

  /** To a place that has been looked into, or on with the search for `kind`. */
  #towards(
    kind: string,
    wanted: (name: string) => boolean,
  ): { at: Receptacle; name: string } | { move: Move } | undefined {
    const known = [this.#here, ...this.#receptacles].find((each) =>
      each !== undefined && !each.closed && each.content?.some(wanted)
    );
    if (known !== undefined) {
      const name = known.content!.find(wanted)!;
      if (known === this.#here) return { at: known, name };
      return { move: this.#goTo(known, `I have seen the ${name} at the ${known.name}.`) };
    }
    const here = this.#here;
    if (here !== undefined && here.content === undefined) {
      const look = { thought: `I look at the ${here.name}.`, command: `examine ${here.name}` };
      return { move: here.closed ? this.#open(here) : look };
    }
    // Whatever is closed costs a turn more: kinds that were found closed are looked into last.
    const unknown = this.#receptacles.filter((each) => each.content === undefined);
    const next = unknown.find(({ name }) => !this.#closedKinds.has(kindOf(name))) ?? unknown[0];
    if (next === undefined) return undefined;
    return { move: this.#goTo(next, `I need to find a ${kind}.`) };
  }

  #findAndTake(kind: string): Move | undefined {
    const found = this.#towards(
      kind,
      (name) => kindOf(name) === kind && !this.#placed.has(name),
    );
    if (found === undefined || "move" in found) return found?.move;
    const { at, name } = found;
    return { thought: `Here is the ${name}. I take it.`, command: `take ${name} from ${at.name}` };
  }

  #findAndUse(lamp: string): Move | undefined {
    if (this.#lit) return undefined;
    const found = this.#towards(lamp, (name) => kindOf(name) === lamp);
    if (found === undefined || "move" in found) return found?.move;
    return { thought: `Here is the ${found.name}. I use it.`, command: `use ${found.name}` };
  }

  #prepare(object: string, { verb, tool }: { verb: string; tool: string }): Move | undefined {
    const place = this.#receptacles.find(({ name }) => kindOf(name) === tool);
    if (place === undefined) return undefined;
    if (place !== this.#here) return this.#goTo(place, `I have to ${verb} the ${object}.`);
    return {
      thought: `I am at the ${place.name}. I ${verb} the ${object}.`,
      command: `${verb} ${object} with ${place.name}`,
    };
  }

  #putAway(object: string, target: string): Move | undefined {
    const places = this.#receptacles.filter(({ name, refused }) =>
      kindOf(name) === target && !refused
    );
    const holdsOne = (each: Receptacle) => each.content?.some((name) => this.#placed.has(name));
    // Two of a kind belong into the same place.
    const place = places.find(holdsOne) ??
      (places.includes(this.#here!) ? this.#here! : places[0]);
    if (place === undefined) return undefined;
    if (place !== this.#here) {
      return this.#goTo(place, `The ${object} belongs to the ${place.name}.`);
    }
    if (place.closed) return this.#open(place);
    return {
      thought: `I put the ${object} there.`,
      command: this.#put(object, place.name),
    };
  }

  /** Something else is in the hand: it has to go before anything else can be taken. */
  #layDown(object: string): Move | undefined {
    const here = this.#here;
    if (here !== undefined && !here.closed && !here.refused) {
      return { thought: `I do not need the ${object}.`, command: this.#put(object, here.name) };
    }
    const place = this.#receptacles.find((each) => !each.closed && !each.refused && each !== here);
    return place && this.#goTo(place, `I do not need the ${object}.`);
  }

  /** What came of a command, the expert's own or any other. */
  observe(command: string, observation: string): void {
    const words = command.trim();
    const place = (name: string | undefined) =>
      this.#receptacles.find((each) => each.name === name);
    const went = /^go to (.*)$/.exec(words);
    if (observation === "Nothing happens.") {
      // One cannot go to where one is, be it that two receptacles stand in one place.
      if (went !== null) this.#here = place(went[1]) ?? this.#here;
      // Nothing to be seen here: it must not be looked at again and again.
      const looked = /^(?:open|examine) (.*)$/.exec(words);
      if (looked !== null) {
        const nothing = place(looked[1]);
        if (nothing !== undefined) nothing.content ??= [];
      }
      const [, object, where] = /^(?:put|move) (.*) (?:in\/on|to) (.*)$/.exec(words) ?? [];
      const into = place(where);
      if (object !== undefined && object === this.#holding && into !== undefined) {
        into.refused = true;
      }
      return;
    }
    if (went !== null) {
      if (observation.startsWith("You arrive at loc ")) {
        this.#put = (object, where) => `put ${object} in/on ${where}`;
      }
      this.#here = place(went[1]) ?? this.#here;
      this.#see(this.#here, observation);
      return;
    }
    const seen = /^(?:open|examine|look at) (.*)$/.exec(words);
    if (seen !== null) return this.#see(place(seen[1]), observation);
    const [, closed] = /^close (.*)$/.exec(words) ?? [];
    if (closed !== undefined) {
      const shut = place(closed);
      if (shut !== undefined) shut.closed = true;
      return;
    }
    const [, taken, from] = /^take (.*) from (.*)$/.exec(words) ?? [];
    if (taken !== undefined) {
      this.#holding = taken;
      this.#placed.delete(taken);
      const source = place(from);
      if (source?.content !== undefined) {
        source.content = source.content.filter((name) => name !== taken);
      }
      return;
    }
    const [, object, where] = /^(?:put|move) (.*) (?:in\/on|to) (.*)$/.exec(words) ?? [];
    if (object !== undefined) {
      this.#holding = undefined;
      place(where)?.content?.push(object);
      const tool = tools[this.goal.type];
      const ready = tool === undefined || this.#prepared.has(object);
      if (kindOf(object) === this.goal.object && kindOf(where!) === this.goal.target && ready) {
        this.#placed.add(object);
      }
      return;
    }
    const [, verb, prepared] = /^(clean|heat|cool) (.*) with /.exec(words) ?? [];
    if (prepared !== undefined) {
      const wanted = tools[this.goal.type]?.verb;
      if (verb === wanted) this.#prepared.add(prepared);
      // What was heated is cold no more, and the other way round.
      else if (verb !== "clean" && wanted !== "clean") this.#prepared.delete(prepared);
      return;
    }
    if (/^use /.test(words) && this.#holding !== undefined) {
      this.#lit = kindOf(this.#holding) === this.goal.object;
    }
  }

  #see(place: Receptacle | undefined, observation: string): void {
    if (place === undefined) return;
    if (observation.endsWith(`The ${place.name} is closed.`)) {
      place.closed = true;
      this.#closedKinds.add(kindOf(place.name));
      return;
    }
    const list = /you see (.*)\.\s*$/.exec(observation)?.[1];
    if (list === undefined) return;
    place.closed = false;
    place.content = thingsIn(list);
  }
}
