/** The workflows that come with the project, by name. */
import type { Workflow } from "../pipeline/mod.ts";
import { alfworld } from "./alfworld.ts";
import { demo } from "./demo.ts";
import { gsm8k } from "./gsm8k.ts";
import { own } from "./own.ts";

export const workflows: Readonly<Record<string, Workflow>> = Object.fromEntries(
  [alfworld, demo, gsm8k, own].map((workflow) => [workflow.name, workflow as Workflow]),
);
