import assert from "node:assert/strict";
import { z } from "zod";
import { UserError } from "../errors.ts";
import { graphRecord, orderNodes, toMermaid, toText } from "./graph.ts";
import { artifactKind, defineStage, list, optional, type Stage } from "./stage.ts";
import { type ArtifactRef, buildGraph, defineWorkflow, type WorkflowBuilder } from "./workflow.ts";

const checkpoint = artifactKind("checkpoint", 1);
const trajectories = artifactKind("trajectories", 2);

const sample = defineStage({
  name: "sample",
  version: 1,
  params: z.object({ count: z.number().int().positive().default(4) }),
  inputs: { policy: optional(checkpoint) },
  outputs: { data: trajectories },
  run: (ctx) => {
    const count: number = ctx.params.count;
    const path: string | undefined = ctx.inputs.policy?.path;
    // @ts-expect-error an optional input may be absent
    ctx.inputs.policy.path;
    // @ts-expect-error there is no such output
    ctx.outputs.policy;
    return Promise.resolve({ count, from: path ?? null });
  },
});

const train = defineStage({
  name: "train",
  version: 1,
  params: z.object({ rate: z.number(), kind: z.enum(["oreo", "sft"]).default("oreo") }),
  inputs: { policy: optional(checkpoint), data: list(trajectories) },
  outputs: { policy: checkpoint },
  run: (ctx) => {
    const paths: string[] = ctx.inputs.data.map((data) => data.path);
    return Promise.resolve({ paths });
  },
});

const evaluate = defineStage({
  name: "evaluate",
  version: 1,
  params: z.object({}),
  inputs: { policy: checkpoint },
  outputs: {},
  run: () => Promise.resolve(),
});

const source = defineStage({
  name: "source",
  version: 1,
  params: z.object({}),
  inputs: {},
  outputs: { old: artifactKind("checkpoint", 0) },
  run: () => Promise.resolve(),
});

function build(body: (w: WorkflowBuilder) => void) {
  const workflow = defineWorkflow({
    name: "w",
    description: "",
    params: z.object({}),
    build: body,
  });
  return buildGraph(workflow, {}, 0);
}

function fails(body: (w: WorkflowBuilder) => void, message: RegExp) {
  assert.throws(() => build(body), (error) => {
    assert(error instanceof UserError);
    assert.equal(error.exitCode, 2);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("loops wire iterations; every stage comes after those it waits for", () => {
  const graph = build((w) => {
    let policy: ArtifactRef<typeof checkpoint> | undefined;
    for (let i = 1; i <= 2; i++) {
      const data = w.shards(`sample-${i}`, sample, 2, () => ({ inputs: { policy } }));
      policy = w.stage(`train-${i}`, train, {
        params: { rate: 0.1 },
        inputs: { policy, data: data.map((shard) => shard.outputs.data) },
      }).outputs.policy;
      w.stage(`evaluate-${i}`, evaluate, { inputs: { policy } });
    }
    w.output("policy", policy!);
  });
  assert.deepEqual(graph.nodes.map((node) => node.id), [
    "sample-1[0]",
    "sample-1[1]",
    "train-1",
    "evaluate-1",
    "sample-2[0]",
    "sample-2[1]",
    "train-2",
    "evaluate-2",
  ]);
  assert.deepEqual(graph.nodes[6]!.params, { rate: 0.1, kind: "oreo" });
  assert.deepEqual(graphRecord(graph).nodes[6]!.inputs, ["train-1", "sample-2[0]", "sample-2[1]"]);
  assert.match(toText(graph), /train-2 +policy <- train-1.policy, data <- \[sample-2\[0\].data, /);
  assert.match(toMermaid(graph), /n2 -->\|policy\| n6/);
});

Deno.test("nodes get seeds of their own that depend on the run's seed", () => {
  const body = (w: WorkflowBuilder) => {
    w.stage("a", sample, {});
    w.stage("b", sample, {});
    w.stage("c", sample, { seed: 5 });
  };
  const [a, b, c] = build(body).nodes;
  assert.notEqual(a!.seed, b!.seed);
  assert.equal(c!.seed, 5);
  assert.equal(build(body).nodes[0]!.seed, a!.seed);
});

Deno.test("wrong wiring does not compile and is refused when it does", () => {
  fails(
    (w) => {
      const data = w.stage("sample", sample, {}).outputs.data;
      // @ts-expect-error trajectories are no checkpoint
      w.stage("evaluate", evaluate, { inputs: { policy: data } });
    },
    /stage 'evaluate' needs input 'policy' of kind checkpoint, got trajectories \(from 'sample'\)/,
  );
  fails((w) => {
    // @ts-expect-error the input is missing
    w.stage("evaluate", evaluate, {});
  }, /stage 'evaluate' needs input 'policy' of kind checkpoint, got nothing/);
  fails((w) => {
    const other: ArtifactRef<typeof trajectories> = w.import("i", trajectories, "/x");
    // @ts-expect-error a list is asked for
    w.stage("train", train, { params: { rate: 1 }, inputs: { data: other } });
  }, /takes a list of trajectories as input 'data', got a single artifact/);
  fails((w) => {
    const data = [w.stage("sample", sample, {}).outputs.data];
    // @ts-expect-error there is no such input
    w.stage("train", train, { params: { rate: 1 }, inputs: { data, polcy: data[0] } });
  }, /stage 'train' has no input 'polcy': did you mean 'policy'\?/);
  fails((w) => {
    const policy = w.import("i", checkpoint, "/x");
    // @ts-expect-error it has inputs, all of which may be left out, but none of this name
    w.stage("sample", sample, { inputs: { polcy: policy } });
  }, /stage 'sample' has no input 'polcy': did you mean 'policy'\?/);
  fails((w) => {
    // @ts-expect-error it takes nothing at all
    w.stage("source", source, { inputs: { policy: w.import("i", checkpoint, "/x") } });
  }, /stage 'source' has no input 'policy'; it has: none/);
  fails((w) => {
    // @ts-expect-error a parameter that it does not have, of a stage without any
    w.stage("source", source, { params: { count: 1 } });
  }, /stage 'source': unknown parameter 'count'/);
  fails((w) => {
    const { old } = w.stage("source", source, {}).outputs;
    // @ts-expect-error an earlier version of the kind
    w.stage("evaluate", evaluate, { inputs: { policy: old } });
  }, /needs input 'policy' of kind checkpoint version 1, got version 0 \(from 'source'\)/);
  fails((w) => {
    // @ts-expect-error a parameter is missing
    w.stage("train", train, { params: {}, inputs: { data: [] } });
  }, /stage 'train': parameter 'rate' is missing/);
  fails((w) => {
    // @ts-expect-error a parameter of the wrong type
    w.stage("train", train, { params: { rate: "x" }, inputs: { data: [] } });
  }, /stage 'train': parameter 'rate': expected number, received string, got "x"/);
  fails((w) => {
    const policy = w.import("old", artifactKind("checkpoint", 0), "/x");
    // @ts-expect-error a kind of another version is another kind
    w.stage("e", evaluate, { inputs: { policy } });
  }, /needs input 'policy' of kind checkpoint version 1, got version 0 \(from 'old'\)/);
  // @ts-expect-error there is no such output
  build((w) => w.stage("sample", sample, {}).outputs.policy);
});

Deno.test("wrongly wired shards and conditions do not compile either", () => {
  build((w) => {
    const shards = w.shards("s", sample, 3, (i) => ({ params: { count: i + 1 } }));
    const data: ArtifactRef<typeof trajectories>[] = shards.map((shard) => shard.outputs.data);
    const policy = w.stage("t", train, { params: { rate: 1 }, inputs: { data } });
    w.stage("e", evaluate, {
      inputs: { policy: policy.outputs.policy },
      when: { of: [policy], test: (values) => values["paths"] !== null, otherwise: "no" },
    });
    const inputs = { policy: policy.outputs.policy };
    // @ts-expect-error a condition says why the stage is skipped
    w.stage("e2", evaluate, { inputs, when: { of: [policy], test: () => true } });
  });
  assert.throws(() =>
    build((w) => {
      const policy = w.stage("t", train, { params: { rate: 1 }, inputs: { data: [] } });
      const when = { of: [policy.outputs.policy], test: () => true, otherwise: "no" };
      // @ts-expect-error a condition is on stages, not on what they make
      w.stage("e", evaluate, { inputs: { policy: policy.outputs.policy }, when });
    }), /'e' depends on 'undefined', which is not in this graph/);
  fails((w) => {
    // @ts-expect-error each shard takes the parameters of its stage
    w.shards("s", sample, 2, (i) => ({ params: { count: `${i}` } }));
  }, /stage 'sample' \('s\[0\]'\): parameter 'count': expected number, received string/);
  fails((w) => {
    const policies = w.shards("p", train, 2, () => ({ params: { rate: 1 }, inputs: { data: [] } }));
    const data = policies.map((shard) => shard.outputs.policy);
    // @ts-expect-error checkpoints are no trajectories, in a list either
    w.stage("t", train, { params: { rate: 1 }, inputs: { data } });
  }, /needs input 'data' of kind trajectories, got checkpoint \(from 'p\[0\]'\)/);
  fails((w) => {
    const shards = w.shards("s", sample, 2, () => ({}));
    // @ts-expect-error a list does not go where one artifact is asked for
    w.stage("e", evaluate, { inputs: { policy: shards.map((shard) => shard.outputs.data) } });
  }, /takes one checkpoint as input 'policy', got a list/);
  fails(
    (w) => void w.shards("s", sample, 0, () => ({})),
    /shards 's': the count must be a positive integer, got 0/,
  );
  fails((w) => {
    const when = { of: [{ id: "gone", outputs: {} }], test: () => true, otherwise: "no" };
    w.stage("s", sample, { when });
  }, /'s' depends on 'gone', which is not in this graph/);
});

Deno.test("all problems of a graph are told at once", () => {
  fails(
    (w) => {
      w.stage("a b", sample, { params: { count: -1 } });
      w.stage("x", sample, {});
      w.stage("x", sample, {});
    },
    /\n {2}stage 'sample' \('a b'\): parameter 'count': .*\n {2}stage name 'a b'.*\n {2}two stages/s,
  );
});

Deno.test("stages that are not of this graph are refused", () => {
  fails((w) => {
    const policy = { node: "gone", output: "policy", kind: checkpoint };
    w.stage("evaluate", evaluate, { inputs: { policy } });
  }, /'gone' is not a stage of this graph/);
});

Deno.test("a cycle is told by its stages", () => {
  const [node] = build((w) => void w.stage("a", sample, {})).nodes;
  const ref = (id: string) => new Map([["policy", { node: id, output: "data" }]]);
  const nodes = ["a", "b", "c"].map((id, i, all) => ({
    ...node!,
    id,
    stage: sample as unknown as Stage,
    inputs: ref(all[(i + 1) % 3]!),
  }));
  assert.throws(
    () => orderNodes("w", new Map(nodes.map((n) => [n.id, n]))),
    /stages wait for each other: a -> c -> b -> a/,
  );
});

Deno.test("a graph may be far deeper than the call stack", () => {
  const graph = build((w) => {
    let policy = w.import("start", checkpoint, "/x");
    for (let i = 0; i < 20_000; i++) {
      policy = w.stage(`t${i}`, train, { params: { rate: 1 }, inputs: { policy, data: [] } })
        .outputs.policy;
    }
  });
  assert.equal(graph.nodes.length, 20_001);
});
