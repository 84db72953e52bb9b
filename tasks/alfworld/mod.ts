/**
 * ALFWorld: household tasks as text games, played from the official game files without Python. A
 * `Game` is a file, read and checked; an `Environment` plays it.
 */
export { Environment, type Outcome } from "./environment.ts";
export { Game, loadGame, loadGameSync } from "./game.ts";
export { plan } from "./planner.ts";
export {
  type GeneratedGame,
  generateGame,
  type GeneratorSettings,
  type TaskType,
  taskTypes,
} from "./generate.ts";
