/**
 * ALFWorld: household tasks as text games, played from the official game files without Python. A
 * `Game` is a file, read and checked; an `Environment` plays it; `alfworld` is the task that models are
 * trained and measured on.
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
export { Expert, type Goal, parseGoal } from "./expert.ts";
export { type Protocol, type ProtocolName, protocolNames, protocols } from "./protocol.ts";
export { demonstrate, formatConversations, parseConversations } from "./conversations.ts";
export { taskTypeOf } from "./games.ts";
export { alfworld } from "./task.ts";
