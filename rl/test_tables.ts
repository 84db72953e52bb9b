/**
 * Models that are tables, for tests: one row of logits and one value per prefix of actions, so that
 * what training should find can be computed exactly. Prompts are the single token 0, actions the tokens
 * 0..actions-1, every response has `horizon` tokens.
 */
import { tf } from "../xla/mod.ts";
import type { Networks } from "./networks.ts";
import { chosenLogProbs, nextTokenDistributions } from "./objectives/mod.ts";
import type { NamedTensors } from "./optimizer.ts";
import type { Trajectory } from "./trajectory.ts";

export interface Tables {
  actions: number;
  horizon: number;
}

/** Number of prefixes, the empty one first, then by length and in order. */
export function prefixCount({ actions, horizon }: Tables): number {
  return (actions ** (horizon + 1) - 1) / (actions - 1);
}

export function prefixIndex({ actions }: Tables, prefix: readonly number[]): number {
  return prefix.reduce((index, action) => index * actions + 1 + action, 0);
}

export function tableNetworks(tables: Tables): Networks {
  const count = prefixCount(tables);
  /** One-hot `[batch, time, prefixes]` of the prefix that ends at each column. */
  const prefixes = (ids: tf.Tensor2D) => {
    const [batch, time] = ids.shape;
    let index = tf.zeros([batch], "int32");
    const columns = [index];
    for (let j = 1; j < time; j++) {
      const action = ids.slice([0, j], [batch, 1]).reshape([batch]);
      index = index.mul(tf.scalar(tables.actions, "int32")).add(tf.scalar(1, "int32")).add(action);
      columns.push(index);
    }
    return tf.oneHot(tf.stack(columns, 1).toInt(), count).toFloat();
  };
  const rows = (table: tf.Tensor, ids: tf.Tensor2D) => {
    const [batch, time] = ids.shape;
    const flat = prefixes(ids).reshape([batch * time, count]) as tf.Tensor2D;
    return tf.matMul(flat, table as tf.Tensor2D).reshape([batch, time, -1]);
  };
  const logits = (params: NamedTensors, ids: tf.Tensor2D) =>
    rows(params.table!, ids) as tf.Tensor3D;
  return {
    policy: {
      logits,
      logProbs: (params, ids) => chosenLogProbs(nextTokenDistributions(logits(params, ids)), ids),
    },
    value: {
      values: (params, ids) => rows(params.table!, ids).squeeze([2]) as tf.Tensor2D,
    },
  };
}

/** Numbers that look random and are the same everywhere. */
function tableOf(rows: number, columns: number, scale: number): tf.Tensor2D {
  const data = Float32Array.from({ length: rows * columns }, (_, i) => scale * Math.sin(7 * i + 1));
  return tf.tensor2d(data, [rows, columns]);
}

export function initialTables(tables: Tables): { policy: NamedTensors; value: NamedTensors } {
  const count = prefixCount(tables);
  return {
    policy: { table: tableOf(count, tables.actions, 0.7) },
    value: { table: tf.zeros([count, 1]) },
  };
}

/** Every response of the tables' horizon. */
export function responses({ actions, horizon }: Tables): number[][] {
  return Array.from(
    { length: actions ** horizon },
    (_, leaf) =>
      Array.from(
        { length: horizon },
        (_, i) => Math.floor(leaf / actions ** (horizon - 1 - i)) % actions,
      ),
  );
}

export function trajectory(responseIds: number[], reward: 0 | 1): Trajectory {
  return {
    version: 1,
    query: "table",
    prompt: "0",
    promptIds: [0],
    responseIds,
    stepEnds: responseIds.map((_, i) => i),
    reward,
    source: "test",
  };
}
