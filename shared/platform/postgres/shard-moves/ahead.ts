import { alignRows, allOf, compareRows, copyAhead, type Ends } from './align-rows.ts'
import type { AnnouncedMove } from './announcements.ts'
import { betweenEnds } from './between-ends.ts'
import { checkReplication } from './check-replication.ts'
import { beginReplication, deleteReplicated, endSubscription, replicationCaughtUp, replicationCopied } from './replication.ts'
import { ShardRefusedError } from './shard-refused.ts'
import type { ShardedTable, ShardedTables } from './sharded-table.ts'

/** What bringing rows ahead needs of a mover. */
interface AheadMover {
  readonly tables: ShardedTables
  readonly maxPauseMs: number
  readonly sleep: (ms: number) => Promise<void>
}

/** To be called behind the closed door: brings the rest and verifies it. Gives how many rows the shard has. */
export type FinishCopy = () => Promise<number>

/** A copy that has taken longer is caught up with before the door is shut: what changed meanwhile is for the pause. */
const AHEAD_SHORT_MS = 5_000
const AHEAD_PASSES_MAX = 4
/** A target that is further behind is waited for with the door open. */
const LAG_SHORT_MS = 500
const LAG_WAITS_MAX = 20
const LAG_MAX_MS = 600_000

/** By COPY. All rows are verified behind the door, by count and checksum. */
export async function copyShardAhead(mover: AheadMover, move: AnnouncedMove, ends: Ends): Promise<FinishCopy> {
  const { tables, maxPauseMs } = mover
  await copyTables(mover, move, ends, tables.moved)
  return () => betweenEnds(tables, move, ends, maxPauseMs, (columns) => alignRows(ends, tables.moved, columns, move.shard))
}

/**
 * The big tables by logical replication, the others by COPY. Of the replicated rows counts and checksums are compared
 * ahead, bucket by bucket, until they are equal; behind the door it is the counts of all buckets, and the checksums
 * of those that were never seen equal. The other tables are verified as ever.
 *
 * @throws ShardRefusedError when the servers do not allow it, or the target does not keep up
 */
export async function replicateShardAhead(
  mover: AheadMover,
  move: AnnouncedMove,
  ends: Ends,
  sourceUrl: string,
): Promise<FinishCopy> {
  const { tables, maxPauseMs, sleep } = mover
  const { replicated } = tables
  const others = tables.moved.filter((table) => !replicated.some(({ name }) => name === table.name))
  await checkReplication(ends, move, sourceUrl, replicated.length)
  await deleteReplicated(ends.target, move, replicated)
  // First, as accounts lead to what is replicated.
  await copyTables(mover, move, ends, others)
  await beginReplication(ends, move, replicated, sourceUrl)
  await replicationCopied(ends.target, move, sleep)
  await catchUp(mover, move, ends)
  let suspects = allOf(replicated)
  for (let pass = 1; pass <= AHEAD_PASSES_MAX && suspects.size > 0; pass++) {
    suspects = await betweenEnds(tables, move, ends, 0, () => compareRows(ends, move.shard, suspects))
  }
  await copyTables(mover, move, ends, others)
  await catchUp(mover, move, ends)
  return async () => {
    await replicationCaughtUp(ends.source, move, maxPauseMs, sleep)
    // Before the shard departs: that its rows are deleted on the source one day is not to reach the target.
    await endSubscription(ends.target, move.moveId)
    return betweenEnds(tables, move, ends, maxPauseMs, async (columns) => {
      const small = await alignRows(ends, others, columns, move.shard)
      const big = await alignRows(ends, replicated, columns, move.shard, suspects)
      return small + big
    })
  }
}

async function copyTables({ tables }: AheadMover, move: AnnouncedMove, ends: Ends, chosen: readonly ShardedTable[]): Promise<void> {
  for (let pass = 1; pass <= AHEAD_PASSES_MAX; pass++) {
    const startMs = performance.now()
    await betweenEnds(tables, move, ends, 0, (columns) => copyAhead(ends, chosen, columns, move.shard))
    if (performance.now() - startMs < AHEAD_SHORT_MS) break
  }
}

async function catchUp({ sleep }: AheadMover, move: AnnouncedMove, { source }: Ends): Promise<void> {
  for (let attempt = 1; attempt <= LAG_WAITS_MAX; attempt++) {
    if ((await replicationCaughtUp(source, move, LAG_MAX_MS, sleep)) < LAG_SHORT_MS) return
  }
  throw new ShardRefusedError(`The target of logical shard ${move.shard} does not keep up with what is written on the source.`)
}
