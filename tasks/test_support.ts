/** For tests: ALFWorld games of which runs of the original were recorded, beside the project. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sharedFiles } from "../tests/shared.ts";

const [manifest] = sharedFiles("oracles/alfworld", /^manifest\.json$/);

/** Whether there are none here; `sharedFiles` has said so. */
export const noPublicGames = manifest === undefined;

/** Their files: the name in the manifest, and where it is. */
export function publicGames(): { file: string; path: string }[] {
  const rows = JSON.parse(readFileSync(manifest!, "utf8")) as { game_file: string }[];
  return rows.map(({ game_file: file }) => ({
    file,
    path: join(dirname(manifest!), "games", file),
  }));
}
