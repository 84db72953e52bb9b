/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
// deno-lint-ignore-file jsx-key -- pages are written once on the server; nothing is reconciled
/**
 * The stage graph as SVG, laid out on the server by dagre. Each node shows its name, state and time,
 * links to its stage's page, and is coloured by classes (`state-done` …) of status.css.
 */
import * as dagre from "@dagrejs/dagre";
import type { StageRecord } from "../pipeline/mod.ts";
import { stagePath, stageSeconds, stateMark } from "./describe.ts";
import { duration } from "../report/mod.ts";

const HEIGHT = 42;
const GAP = 14;
/** Wider graphs are laid out from top to bottom instead of from left to right. */
const PAGE_WIDTH = 1040;
const LONGEST_LABEL = 26;

interface Box {
  x: number;
  y: number;
  width: number;
}
interface Layout {
  width: number;
  height: number;
  boxes: Map<string, Box>;
  edges: { x: number; y: number }[][];
}

function layout(stages: readonly StageRecord[], direction: "LR" | "TB"): Layout {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({
    rankdir: direction,
    nodesep: GAP,
    ranksep: direction === "LR" ? 34 : 24,
    marginx: 4,
    marginy: 4,
  });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id } of stages) {
    // Widths of text are not known on the server; this is ample for the page's fonts, and the same
    // whatever the second line says, so that the graph does not move while a run goes on.
    const width = Math.max(150, 24 + 7.9 * label(id).length);
    graph.setNode(id, { width, height: HEIGHT });
  }
  for (const { id, inputs } of stages) {
    for (const input of inputs) if (graph.hasNode(input)) graph.setEdge(input, id);
  }
  dagre.layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return {
    width,
    height,
    boxes: new Map(stages.map(({ id }) => [id, graph.node(id) as Box])),
    edges: graph.edges().map((e) =>
      (graph.edge(e) as { points: { x: number; y: number }[] }).points
    ),
  };
}

const label = (id: string) => id.length > LONGEST_LABEL ? `${id.slice(0, LONGEST_LABEL - 1)}…` : id;

/** `✓ done, 12 s`: the second line of a node. */
function detail(stage: StageRecord, now: number): string {
  const seconds = stageSeconds(stage, now);
  const time = seconds === undefined ? "" : `, ${duration(seconds)}`;
  return `${stateMark(stage.state)} ${stage.state}${time}`;
}

export interface StageGraphProps {
  run: string;
  stages: readonly StageRecord[];
  /** Milliseconds since 1970; how long running stages have run is counted up to it. */
  now: number;
}

export function StageGraph({ run, stages, now }: StageGraphProps) {
  if (stages.length === 0) return null;
  const wide = layout(stages, "LR");
  const { width, height, boxes, edges } = wide.width <= PAGE_WIDTH ? wide : layout(stages, "TB");
  return (
    <svg
      class="graph"
      viewBox={`0 0 ${Math.ceil(width)} ${Math.ceil(height)}`}
      width={Math.ceil(width)}
      height={Math.ceil(height)}
      role="group"
      aria-label="Graph of stages; the table below has the same facts"
    >
      <defs>
        <marker
          id="arrow"
          viewBox="0 0 8 8"
          refX="7"
          refY="4"
          markerWidth="7"
          markerHeight="7"
          orient="auto"
        >
          <path d="M0,0.5 L8,4 L0,7.5 z" />
        </marker>
      </defs>
      {edges.map((points) => <path class="edge" d={smooth(points)} marker-end="url(#arrow)" />)}
      {stages.map((stage) => {
        const { x, y, width } = boxes.get(stage.id)!;
        const fraction = stage.state === "running" && stage.progress && stage.progress.total > 0
          ? Math.min(1, stage.progress.done / stage.progress.total)
          : undefined;
        return (
          <a href={stagePath(run, stage.id)} class={`node state-${stage.state}`}>
            <title>{`${stage.id}: ${stage.state}`}</title>
            <rect x={x - width / 2} y={y - HEIGHT / 2} width={width} height={HEIGHT} rx="7" />
            {fraction !== undefined && (
              <rect
                class="done-part"
                x={x - width / 2 + 7}
                y={y + HEIGHT / 2 - 4}
                width={(width - 14) * fraction}
                height="3"
              />
            )}
            <text x={x - width / 2 + 11} y={y - 3}>{label(stage.id)}</text>
            <text class="detail" x={x - width / 2 + 11} y={y + 13}>
              {detail(stage, now)}
            </text>
          </a>
        );
      })}
    </svg>
  );
}

/** A line through the points whose corners are rounded by quadratic curves. */
function smooth(points: readonly { x: number; y: number }[]): string {
  const at = (p: { x: number; y: number }) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`;
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) return "";
  let path = `M${at(first)}`;
  for (let i = 1; i < points.length - 1; i++) {
    const p = points[i]!;
    const next = points[i + 1]!;
    const end = i === points.length - 2 ? next : { x: (p.x + next.x) / 2, y: (p.y + next.y) / 2 };
    path += ` Q${at(p)} ${at(end)}`;
  }
  return points.length === 2 ? `${path} L${at(last)}` : path;
}
