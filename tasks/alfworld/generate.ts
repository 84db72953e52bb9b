/**
 * A small world that ships: ALFRED-like games made from a seed, in ALFWorld's file format, so that
 * tests and demonstrations of agent tasks need no download. A room has receptacles of several kinds,
 * some of them closed, objects in them, and a goal of one of the six task types that can be reached.
 */
import { Random } from "../random.ts";
import { worldDomain, worldGrammar } from "./world_texts.ts";

/** The six kinds of tasks, as ALFRED names them. */
export const taskTypes = [
  "pick_and_place_simple",
  "look_at_obj_in_light",
  "pick_clean_then_place_in_recep",
  "pick_heat_then_place_in_recep",
  "pick_cool_then_place_in_recep",
  "pick_two_obj_and_place",
] as const;

export type TaskType = typeof taskTypes[number];

/** Kinds of receptacles; a star marks those that can be closed. */
const rooms = {
  kitchen: ["CounterTop", "Cabinet*", "Drawer*", "Fridge*", "Microwave*", "SinkBasin", "Shelf"],
  bathroom: ["CounterTop", "Cabinet*", "SinkBasin", "Toilet", "Shelf", "GarbageCan"],
  bedroom: ["Bed", "Desk", "Drawer*", "Dresser*", "Shelf", "SideTable"],
} as const;

type Room = keyof typeof rooms;

/** Kinds of objects by room, with what can be done with them: c(lean), h(eat), k (cool). */
const objects: Readonly<Record<Room, Readonly<Record<string, string>>>> = {
  kitchen: {
    Apple: "chk",
    Mug: "chk",
    Plate: "chk",
    Egg: "chk",
    Knife: "c",
    Bread: "hk",
    Pan: "ck",
  },
  bathroom: { SoapBar: "c", Cloth: "c", SprayBottle: "", ToiletPaper: "", Candle: "" },
  bedroom: { Book: "", Pen: "", CellPhone: "", KeyChain: "", Pillow: "", Box: "", Laptop: "" },
};

/** Where only some things go: everything else takes all objects of its room. */
const only: Readonly<Record<string, string>> = { Fridge: "k", Microwave: "h", SinkBasin: "c" };

export interface GeneratorSettings {
  /** Receptacles of a room, at most; at least one of every kind that the goal needs is there. */
  readonly receptacles?: number;
  /** Objects, the wanted ones included. */
  readonly objects?: number;
}

/** A made game. */
export interface GeneratedGame {
  readonly taskType: TaskType;
  /** e.g. `pick_heat_then_place_in_recep-Mug-None-Shelf-7`. */
  readonly name: string;
  /** The content of its `game.tw-pddl`. */
  readonly text: string;
}

interface Receptacle {
  readonly kind: string;
  readonly id: string;
  readonly location: string;
  readonly openable: boolean;
}

interface Thing {
  readonly kind: string;
  readonly id: string;
  readonly inside: Receptacle;
}

/**
 * The game of a seed: the same on every machine.
 * @param type one of the six; by the seed where left out
 */
export function generateGame(
  seed: string,
  settings: GeneratorSettings = {},
  type?: TaskType,
): GeneratedGame {
  const random = Random.from(`alfworld/${seed}`);
  const taskType = type ?? random.pick(taskTypes);
  const room = roomFor(taskType, random);
  const wanted = random.pick(
    Object.keys(objects[room]).filter((kind) => fits(room, kind, taskType)),
  );
  const kinds = rooms[room].map((kind) => kind.replace("*", ""));
  const target = random.pick(
    kinds.filter((kind) => canContain(room, kind, wanted) && kind !== toolOf[taskType]),
  );
  const receptacles = furnish(room, [target, toolOf[taskType]], settings.receptacles ?? 7, random);
  const count = taskType === "pick_two_obj_and_place" ? 2 : 1;
  const things = place(room, { wanted, target, count, taskType }, receptacles, {
    total: settings.objects ?? 8,
    random,
  });
  const goal = goalOf(taskType, wanted, target);
  const problem = problemOf(seed, receptacles, things, room, goal);
  const place_ = taskType === "look_at_obj_in_light" ? "DeskLamp" : target;
  return {
    taskType,
    name: `${taskType}-${wanted}-None-${place_}-${seed}`,
    text: JSON.stringify({
      pddl_domain: worldDomain,
      grammar: worldGrammar(wording(taskType, wanted.toLowerCase(), target.toLowerCase(), random)),
      pddl_problem: problem,
      solvable: true,
      walkthrough: [],
    }),
  };
}

/** The receptacle that a task type cannot do without. */
const toolOf: Readonly<Record<TaskType, string | undefined>> = {
  pick_and_place_simple: undefined,
  look_at_obj_in_light: undefined,
  pick_clean_then_place_in_recep: "SinkBasin",
  pick_heat_then_place_in_recep: "Microwave",
  pick_cool_then_place_in_recep: "Fridge",
  pick_two_obj_and_place: undefined,
};

function roomFor(type: TaskType, random: Random): Room {
  if (type === "look_at_obj_in_light") return "bedroom";
  if (type === "pick_heat_then_place_in_recep" || type === "pick_cool_then_place_in_recep") {
    return "kitchen";
  }
  if (type === "pick_clean_then_place_in_recep") return random.pick(["kitchen", "bathroom"]);
  return random.pick(["kitchen", "bathroom", "bedroom"]);
}

function fits(room: Room, kind: string, type: TaskType): boolean {
  const can = objects[room][kind]!;
  if (type === "pick_clean_then_place_in_recep") return can.includes("c");
  if (type === "pick_heat_then_place_in_recep") return can.includes("h");
  if (type === "pick_cool_then_place_in_recep") return can.includes("k");
  return true;
}

function canContain(room: Room, receptacle: string, object: string): boolean {
  const needs = only[receptacle];
  return needs === undefined || objects[room][object]!.includes(needs);
}

/** Receptacles of a room, each at a location of its own. */
function furnish(
  room: Room,
  needed: readonly (string | undefined)[],
  most: number,
  random: Random,
): Receptacle[] {
  const kinds = rooms[room].map((kind) => kind.replace("*", ""));
  const chosen = [...new Set(needed.filter((kind) => kind !== undefined))];
  // Something that is always open and takes everything holds the lamp.
  const open = rooms[room].find((kind) => !kind.endsWith("*") && !(kind in only))!;
  if (!chosen.includes(open)) chosen.push(open);
  // What is wanted begins somewhere else than where it belongs.
  const elsewhere = (kind: string) => kind !== needed[0] && !(kind in only);
  if (!chosen.some(elsewhere)) chosen.push(kinds.find(elsewhere)!);
  while (chosen.length < most) {
    chosen.push(random.pick(kinds.filter((kind) => usable(kind, chosen))));
  }
  return chosen.map((kind, index) => {
    const at = `${index}_bar_${random.integer(0, 9)}_bar_${random.integer(0, 3)}`;
    const openable = rooms[room].some((each) => each === `${kind}*`);
    const id = kind === "SinkBasin" ? `Sink_bar_${at}_bar_SinkBasin` : `${kind}_bar_${at}`;
    return { kind, id, location: `loc_bar_${at}`, openable };
  });
}

/** A home has one fridge, one microwave and so on; cabinets, drawers and shelves may be many. */
function usable(kind: string, chosen: readonly string[]): boolean {
  return ["Cabinet", "Drawer", "Shelf", "SideTable", "CounterTop"].includes(kind) ||
    !chosen.includes(kind);
}

function place(
  room: Room,
  goal: { wanted: string; target: string; count: number; taskType: TaskType },
  receptacles: readonly Receptacle[],
  { total, random }: { total: number; random: Random },
): Thing[] {
  const things: Thing[] = [];
  const put = (kind: string, allowed: (each: Receptacle) => boolean) => {
    const inside = random.pick(
      receptacles.filter((each) => canContain(room, each.kind, kind) && allowed(each)),
    );
    const at = `${things.length}_bar_${random.integer(0, 9)}`;
    things.push({ kind, id: `${kind}_bar_${at}`, inside });
  };
  const elsewhere = (each: Receptacle) => each.kind !== goal.target;
  for (let each = 0; each < goal.count; each++) put(goal.wanted, elsewhere);
  // Others of the wanted kind are left out: which one is meant would be a guess.
  const others = Object.keys(objects[room]).filter((kind) => kind !== goal.wanted);
  while (things.length < total) put(random.pick(others), () => true);
  if (goal.taskType === "look_at_obj_in_light") {
    const inside = receptacles.find((each) => !each.openable && !(each.kind in only))!;
    things.push({ kind: "DeskLamp", id: `DeskLamp_bar_${things.length}_bar_0`, inside });
  }
  return things;
}

function wording(type: TaskType, object: string, target: string, random: Random): string {
  const either = (...texts: string[]) => random.pick(texts);
  switch (type) {
    case "pick_and_place_simple":
      return either(`put a ${object} in ${target}`, `put some ${object} on ${target}`);
    case "look_at_obj_in_light":
      return either(
        `look at ${object} under the desklamp`,
        `examine the ${object} with the desklamp`,
      );
    case "pick_clean_then_place_in_recep":
      return either(
        `put a clean ${object} in ${target}`,
        `clean some ${object} and put it in ${target}`,
      );
    case "pick_heat_then_place_in_recep":
      return either(
        `put a hot ${object} in ${target}`,
        `heat some ${object} and put it in ${target}`,
      );
    case "pick_cool_then_place_in_recep":
      return either(
        `put a cool ${object} in ${target}`,
        `cool some ${object} and put it in ${target}`,
      );
    case "pick_two_obj_and_place":
      return either(
        `put two ${object} in ${target}`,
        `find two ${object} and put them in ${target}`,
      );
  }
}

function goalOf(type: TaskType, object: string, target: string): string {
  const of = (name: string) => `(objectType ${name} ${object}Type)`;
  const inTarget = (name: string) => `(inReceptacle ${name} ?r) ${of(name)}`;
  const placed = (more: string) =>
    `(exists (?r - receptacle) (exists (?o - object) (and ${inTarget("?o")} ` +
    `(receptacleType ?r ${target}Type)${more})))`;
  switch (type) {
    case "pick_and_place_simple":
      return placed("");
    case "look_at_obj_in_light":
      return `(exists (?ot - object) (exists (?a - agent) (exists (?l - location) ` +
        `(exists (?o - object) (and (toggleable ?ot) (isToggled ?ot) (objectAtLocation ?ot ?l) ` +
        `(atLocation ?a ?l) (holds ?a ?o) ${of("?o")})))))`;
    case "pick_clean_then_place_in_recep":
      return placed(" (isClean ?o)");
    case "pick_heat_then_place_in_recep":
      return placed(" (isHot ?o)");
    case "pick_cool_then_place_in_recep":
      return placed(" (isCool ?o)");
    case "pick_two_obj_and_place":
      return placed(` (exists (?p - object) (and (not (= ?o ?p)) ${inTarget("?p")}))`);
  }
}

function problemOf(
  seed: string,
  receptacles: readonly Receptacle[],
  things: readonly Thing[],
  room: Room,
  goal: string,
): string {
  const start = "loc_bar_start_bar_0_bar_0";
  const kinds = [...new Set(things.map((each) => each.kind))];
  const places = [...new Set(receptacles.map((each) => each.kind))];
  const able: Readonly<Record<string, string>> = { c: "cleanable", h: "heatable", k: "coolable" };
  // The domain names these kinds whether a room has them or not.
  const types = new Set([...places, "SinkBasin", "Microwave", "Fridge"]);
  const declared = [
    "agent1 - agent",
    `${start} - location`,
    ...receptacles.flatMap(({ id, location }) => [`${id} - receptacle`, `${location} - location`]),
    ...things.map(({ id }) => `${id} - object`),
    ...[...types].map((kind) => `${kind}Type - rtype`),
    ...kinds.map((kind) => `${kind}Type - otype`),
  ];
  const facts = [
    `atLocation agent1 ${start}`,
    ...receptacles.flatMap(({ id, kind, location, openable }) => [
      `receptacleType ${id} ${kind}Type`,
      `receptacleAtLocation ${id} ${location}`,
      ...(openable ? [`openable ${id}`] : []),
    ]),
    ...places.flatMap((place) =>
      kinds.filter((kind) => kind !== "DeskLamp" && canContain(room, place, kind))
        .map((kind) => `canContain ${place}Type ${kind}Type`)
    ),
    ...things.flatMap(({ id, kind, inside }) => [
      `objectType ${id} ${kind}Type`,
      `inReceptacle ${id} ${inside.id}`,
      `objectAtLocation ${id} ${inside.location}`,
      ...(kind === "DeskLamp" ? [`toggleable ${id}`] : [`pickupable ${id}`]),
      ...[...objects[room][kind] ?? ""].map((letter) => `${able[letter]} ${id}`),
    ]),
  ];
  const lines = (texts: readonly string[]) => texts.map((text) => `    ${text}`).join("\n");
  return `(define (problem generated_${seed.replace(/\W/g, "_")})
  (:domain alfred)
  (:objects
${lines(declared)})
  (:init
${lines(facts.map((fact) => `(${fact})`))})
  (:goal ${goal}))
`;
}
