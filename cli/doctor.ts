/** `doctor`: what tensors can run on here, what they will run on, and how to get the rest. */
import { checkBackend, examinationText, examineBackends, requireUsable } from "../xla/mod.ts";
import { backend, plainCommand } from "./options.ts";

/** The command. Exit code 1 where the backend asked for cannot be used. */
export function doctorCommand() {
  return plainCommand("doctor", "say what tensors can run on here, and why not on the rest")
    .option(...backend)
    .option("--json", "as JSON")
    .action(async (options) => {
      const spec = (options.backend ?? Deno.env.get("OREO_BACKEND")) || undefined;
      if (spec !== undefined && !spec.includes("/") && !spec.endsWith(".so")) checkBackend(spec);
      const examination = await examineBackends(spec);
      const { denoVersion, machine } = environment();
      if (options.json) console.log(JSON.stringify({ denoVersion, machine, ...examination }));
      else console.log(`Deno ${denoVersion}, ${machine}\n\n${examinationText(examination, spec)}`);
      requireUsable(examination, spec);
    });
}

function environment(): { denoVersion: string; machine: string } {
  const gib = (Deno.systemMemoryInfo().total / 2 ** 30).toFixed(1);
  return {
    denoVersion: Deno.version.deno,
    machine: `${Deno.build.target}, ${navigator.hardwareConcurrency} cores, ${gib} GiB of memory`,
  };
}
