/** Loads the default tensor backend, fetching its plugin on the first run, and says which it is. */
import { useBackend } from "../xla/mod.ts";

const { name, platform, devices } = await useBackend();
console.log(`tensor backend: ${name} on ${platform}, ${devices} device${devices === 1 ? "" : "s"}`);
