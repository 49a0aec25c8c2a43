import { CLEAN_AFTER_MS, cleanShard, findLeftovers } from '#platform/postgres/shard-moves/clean-shard.ts'
import type { AppRouter } from '../database.ts'
import { SHARDED_TABLES } from './sharded-tables.ts'

/** Rows that one transaction deletes. */
const BATCH_ROWS = 2_000
/** Of one shard, before another one, another node or another chore has its turn. */
const BATCHES_MAX = 20
/** Of each node, in one call. */
const SHARDS_MAX = 50

/** What was deleted of shards that have left. */
export interface Cleaned {
  /** Shards of which nothing is left where they were. */
  readonly shards: number
  /** Shards of which something is. */
  readonly rest: number
}

/**
 * Deletes a bounded part of what shards have left on the nodes that they moved away from, ten minutes after they did.
 * Safe to run many times at once, and beside a mover.
 *
 * @throws whatever a node or the directory says
 */
export async function cleanShards(router: AppRouter, graceMs = CLEAN_AFTER_MS): Promise<Cleaned> {
  const directory = router.directory.primary
  let shards = 0
  let rest = 0
  for (const node of router.nodes) {
    const leftovers = await findLeftovers(directory, node, router.nodes, graceMs)
    rest += Math.max(0, leftovers.length - SHARDS_MAX)
    for (const leftover of leftovers.slice(0, SHARDS_MAX)) {
      const options = { batchRows: BATCH_ROWS, batches: BATCHES_MAX }
      if (await cleanShard(node.primary, SHARDED_TABLES, leftover, options)) shards++
      else rest++
    }
  }
  return { shards, rest }
}
