/**
 * Where games come from: a folder of ALFWorld's data, split by its own folders, or the generator. The
 * published figures count `valid_seen` (rooms known from training) and `valid_unseen` apart.
 */
import { readdir } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { fractionOf } from "../random.ts";
import type { Query, Split } from "../task.ts";
import { Game, loadGame } from "./game.ts";
import { generateGame, type TaskType, taskTypes } from "./generate.ts";
import { Source } from "./source.ts";

export const gamesFields = {
  path: z.string().optional()
    .describe("the folder with train, valid_seen and valid_unseen; none: generated games"),
  /** What the test split is of a folder: its known rooms or the others. */
  rooms: z.enum(["seen", "unseen"]).default("unseen"),
  /** Generated games. */
  world: z.object({
    seed: z.int().default(0),
    receptacles: z.int().min(3).default(7),
    objects: z.int().min(3).default(8),
    types: z.array(z.enum(taskTypes)).min(1).default([...taskTypes]),
    /** Games of each split. */
    train: z.int().positive().default(2000),
    validation: z.int().positive().default(100),
    test: z.int().positive().default(134),
  }).prefault({}),
};
type GamesParameters = z.output<z.ZodObject<typeof gamesFields>>;

/** Of a folder's training games this share is kept back as the validation split. */
const validationShare = 0.03;

/** The type in a game's name, e.g. of `pick_heat_then_place_in_recep-Mug-None-Shelf-7`. */
export function taskTypeOf(name: string): TaskType | undefined {
  return taskTypes.find((type) => name.startsWith(`${type}-`));
}

/** The queries of a split: one a game, its `group` the task type. */
export function gamesOf(split: Split, params: GamesParameters): Promise<Query[]> {
  return params.path === undefined
    ? Promise.resolve(generated(split, params))
    : inFolder(split, params.path, params.rooms);
}

function generated(split: Split, { world }: GamesParameters): Query[] {
  return Array.from({ length: world[split] }, (_, number) => {
    const group = world.types[number % world.types.length]!;
    return { id: `${group}/${world.seed}/${split}/${number}`, question: group, gold: "won", group };
  });
}

async function inFolder(split: Split, path: string, rooms: "seen" | "unseen"): Promise<Query[]> {
  const folder = split === "test" ? `valid_${rooms}` : "train";
  const root = join(path, folder);
  let names: string[];
  try {
    names = await readdir(root, { recursive: true });
  } catch (cause) {
    throw new UserError(
      `cannot read ALFWorld's games in ${root}: ${(cause as Error).message}. ` +
        `Give the folder that has train, valid_seen and valid_unseen (json_2.1.1)`,
      { cause },
    );
  }
  // The original leaves out slicing, and what has to be moved out of something else.
  const files = names
    .filter((name) => basename(name) === "game.tw-pddl" && !/movable|Sliced/.test(name))
    .map((name) => name.split(sep).join("/"))
    .sort();
  const kept = split === "test"
    ? files
    : files.filter((name) =>
      (fractionOf(dirname(name)) < validationShare) === (split === "validation")
    );
  const queries: Query[] = [];
  for (const name of kept) {
    const file = join(root, name);
    if (!isSolvable(new Source(file, await Deno.readTextFile(file)).json())) continue;
    const type = taskTypeOf(name) ?? "other";
    queries.push({ id: `${folder}/${name}`, question: type, gold: "won", group: type });
  }
  if (queries.length === 0) {
    throw new UserError(`there is no game of the ${split} split in ${root}`);
  }
  return queries;
}

/** The original takes a game only where its file says that it can be won. */
function isSolvable(file: unknown): boolean {
  return typeof file === "object" && file !== null && "solvable" in file && Boolean(file.solvable);
}

/** The game of a query. @throws {UserError} where its file is malformed or gone */
export async function gameOf({ id, group }: Query, params: GamesParameters): Promise<Game> {
  if (params.path !== undefined) return await loadGame(join(params.path, ...id.split("/")));
  const { receptacles, objects } = params.world;
  const { text } = generateGame(id, { receptacles, objects }, group as TaskType);
  return new Game(text, id);
}
