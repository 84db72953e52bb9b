/**
 * The published wording of the agents' prompts, word for word, faults included: models were trained on it.
 * From the OREO authors' code (github.com/jwhj/OREO, examples/scratch/run_alfworld_async.py; Apache-2.0)
 * and ETO's (github.com/Yifan-Song793/ETO, eval_agent/prompt; commit a2fc5da).
 */
import type { ChatMessage } from "../task.ts";

function instruction(take: string): string {
  return [
    "Interact with a household to solve a task. Imagine you are an intelligent agent in a " +
    "household environment and your target is to perform actions to complete the task goal. At " +
    "the beginning of your interactions, you will be given the detailed description of the " +
    "current environment and your goal to accomplish. ",
    "For each of your turn, you will be given the observation of the last turn. You should " +
    "first think about the current condition and plan for your future actions, and then output " +
    'your action in this turn. Your output must strictly follow this format:"Thought: your ' +
    'thoughts.\\nAction: your next action".',
    "",
    "The available actions are:",
    "1. go to {recep}",
    `2. ${take} {obj} from {recep}`,
    "3. put {obj} in/on {recep}",
    "4. open {recep}",
    "5. close {recep}",
    "6. toggle {obj} {recep}",
    "7. clean {obj} with {recep}",
    "8. heat {obj} with {recep}",
    "9. cool {obj} with {recep}",
    "where {obj} and {recep} correspond to objects and receptacles.",
    "After your each turn, the environment will give you immediate feedback based on which you " +
    'plan your next few steps. if the envrionment output "Nothing happened", that means the ' +
    "previous action is invalid and you should try more options.",
    "",
    "Your response should use the following format:",
    "",
    "Thought: <your thoughts>",
    "Action: <your next action>",
  ].join("\n");
}

/** The paper's, with its slip in the second action. */
export const oreoInstruction = instruction("task");
/** ETO's, whose file ends with a line break. */
export const etoInstruction = `${instruction("take")}\n`;

/** The one worked example. */
export const example: readonly ChatMessage[] = [
  {
    role: "user",
    content: "You are in the middle of a room. Looking quickly around you, you see a " +
      "bathtubbasin 1, a cabinet 2, a cabinet 1, a countertop 1, a garbagecan 1, a " +
      "handtowelholder 1, a sinkbasin 1, a toilet 1, a toiletpaperhanger 1, and a " +
      "towelholder 1.\n\nYour task is to: put a toiletpaper in toiletpaperhanger.",
  },
  {
    role: "assistant",
    content: "Thought: I need to place a toilet paper roll on the toilet paper hanger. First, " +
      "I should check if there's already a roll on the hanger or if it's empty.\n" +
      "Action: go to toiletpaperhanger 1",
  },
  {
    role: "user",
    content: "Observation: On the toiletpaperhanger 1, you see nothing.",
  },
  {
    role: "assistant",
    content: "Thought: The toilet paper hanger is empty, so I need to find a new roll of " +
      "toilet paper to put on it.\nAction: go to toilet 1",
  },
  {
    role: "user",
    content: "Observation: On the toilet 1, you see a soapbottle 1, and a toiletpaper 1.",
  },
  {
    role: "assistant",
    content: "Thought: I've found a toilet paper roll on the toilet. I should pick it up so I " +
      "can place it on the hanger.\nAction: take toiletpaper 1 from toilet 1",
  },
  {
    role: "user",
    content: "Observation: You pick up the toiletpaper 1 from the toilet 1.",
  },
  {
    role: "assistant",
    content: "Thought: Now that I have the toilet paper roll, I need to return to the toilet " +
      "paper hanger to install it.\nAction: go to toiletpaperhanger 1",
  },
  {
    role: "user",
    content: "Observation: On the toiletpaperhanger 1, you see nothing.",
  },
  {
    role: "assistant",
    content: "Thought: I'm back at the toilet paper hanger with the roll in hand. It's time " +
      "to put the toilet paper on the hanger.\nAction: put toiletpaper 1 in/on " +
      "toiletpaperhanger 1",
  },
];
