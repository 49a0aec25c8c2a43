import { sql } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import { systemSleep } from '#platform/id-lease/sleep.ts'
import { moveDeadLetters } from '#platform/outbox/dead-letters.ts'
import { isRetryable } from '#platform/postgres/database-errors.ts'
import type { Node } from '#platform/postgres/node.ts'
import { forgetNodeWeight } from '#platform/postgres/node-weights.ts'
import { asOnlyMover, findForgottenMoves, readMoves } from '#platform/postgres/shard-moves/announcements.ts'
import { CLEAN_AFTER_MS } from '#platform/postgres/shard-moves/clean-shard.ts'
import { readStrays } from '#platform/postgres/shard-state.ts'
import { profileKey } from '../accounts/accounts.keys.ts'
import { recountFollowers } from '../counters/counters.queries.ts'
import type { AppRouter, Database, Db } from '../database.ts'
import { findTableWithRows } from './check-node.ts'
import { cleanShards } from './clean-shards.ts'

/** What a node has given to the others. */
export interface NodeRemoval {
  /** Accounts whose followers were counted anew, without it. */
  readonly counted: number
  /** Dead letters that are in the directory now. */
  readonly letters: number
}

export interface RemovalOptions {
  /** Rows of shards that left later than so long ago are not deleted yet. */
  readonly graceMs?: number
  /** How long the workers have to empty its outbox. */
  readonly drainMs?: number
  readonly sleep?: (ms: number) => Promise<void>
}

/** Accounts whose followers are counted by one statement. */
const COUNT_BATCH = 200
/** Folds run every second, and each takes part of the accounts. */
const COUNT_ATTEMPTS = 10
const MINUTE_MS = 60_000
const DRAIN_MS = 30_000
const DRAIN_POLL_MS = 500

/**
 * Takes from a node without shards all that is still of use: its part of the follower counts, and its dead letters. Then
 * it may leave DATABASE_NODES. While an account's followers are counted its count may be too high for a moment, no more.
 * After whatever end it goes on when it runs again, and once more finds nothing to do.
 *
 * @throws MoverBusyError; Error that says what the node is still needed for, and what to do; whatever a node says
 */
export async function removeNode(
  router: AppRouter,
  name: string,
  { graceMs = CLEAN_AFTER_MS, drainMs = DRAIN_MS, sleep = systemSleep }: RemovalOptions = {},
): Promise<NodeRemoval> {
  const { directory } = router
  const node = router.nodes.find((found) => found.name === name)
  if (node === undefined) throw new Error(`There is no node ${name}.`)
  if (node === directory) throw new Error(`${name} is the directory, which stays.`)
  return asOnlyMover(directory.primary, async (assertOnly) => {
    await router.refresh()
    await assertWithoutShards(router, node)
    while ((await cleanShards(router, graceMs)).rest > 0);
    await assertLeftLongAgo(node, graceMs)
    await drain(node.primary, name, drainMs, sleep)
    const counted = await giveCounts(router, node, assertOnly)
    const letters = await moveDeadLetters(node.primary, directory.primary)
    await sql`delete from fanout_cursors`.execute(node.primary)
    await drain(node.primary, name, drainMs, sleep)
    const table = await findTableWithRows(node.primary)
    if (table !== undefined) throw new Error(`${name} has rows in ${table} that belong to no shard: look at them before it leaves.`)
    await forgetNodeWeight(directory.primary, name)
    return { counted, letters }
  })
}

async function assertWithoutShards({ nodes, directory }: AppRouter, { name }: Node<Database>): Promise<void> {
  const { rows } = await sql<{ shards: number }>`
    select count(*)::int as shards from shard_map where node = ${name}`.execute(directory.primary)
  const shards = rows[0]?.shards ?? 0
  if (shards > 0) throw new Error(`${name} has ${shards} shards: \`move --from ${name} --count ${shards} --to …\` first.`)
  const forgotten = await Promise.all(nodes.map((node) => findForgottenMoves(directory.primary, node)))
  // Their follows are nowhere at home, and would be counted nowhere.
  const open = (await readMoves(directory.primary)).length + forgotten.flat().length
  if (open > 0) throw new Error(`${open} moves of shards are not finished: \`resume\` first.`)
}

async function assertLeftLongAgo({ name, primary }: Node<Database>, graceMs: number): Promise<void> {
  const { length } = await readStrays(primary)
  if (length === 0) return
  throw new Error(`${length} shards have left ${name} less than ${graceMs / MINUTE_MS} minutes ago and may still be read there: run this again then.`)
}

/** Waits until workers have done the jobs of a node, and made the cache forget what it is to forget. */
async function drain(db: Db, name: string, drainMs: number, sleep: (ms: number) => Promise<void>): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += DRAIN_POLL_MS) {
    const { rows } = await sql<{ left: number }>`
      select ((select count(*) from outbox) + (select count(*) from cache_invalidations))::int as left`.execute(db)
    const left = rows[0]?.left ?? 0
    if (left === 0) return
    if (waitedMs >= drainMs) {
      throw new Error(`${left} jobs and cache invalidations still wait on ${name}: are the workers there? Run this again when they are done.`)
    }
    await sleep(DRAIN_POLL_MS)
  }
}

/** Has the other nodes count the followers of everybody whom this one counts, and then forgets its own counts. */
async function giveCounts({ nodes, directory }: AppRouter, node: Node<Database>, assertOnly: () => Promise<void>): Promise<number> {
  const others = nodes.filter((other) => other !== node)
  const { rows } = await sql<{ on: boolean }>`select ring is not null as on from cache_state`.execute(directory.primary)
  const isCacheOn = rows[0]?.on === true
  for (let counted = 0; ; ) {
    const { rows: batch } = await sql<{ id: Id }>`
      (select subject_id as id from counters where kind = 'followers' order by subject_id limit ${COUNT_BATCH})
      union (select subject_id from counter_deltas where kind = 'followers' order by subject_id limit ${COUNT_BATCH})
      limit ${COUNT_BATCH}`.execute(node.primary)
    const ids = batch.map(({ id }) => id)
    if (ids.length === 0) return counted
    // Of a shard that somebody moves meanwhile the follows would be counted nowhere.
    await assertOnly()
    await node.primary.transaction().execute(async (trx) => {
      await trx.deleteFrom('counter_deltas').where('subject_id', 'in', ids).where('kind', '=', 'followers').execute()
      await trx.deleteFrom('counters').where('subject_id', 'in', ids).where('kind', '=', 'followers').execute()
      // A profile may have been cached with what both count; a sweeper does the rest.
      const keys = ids.map(profileKey)
      if (isCacheOn) await sql`insert into cache_invalidations (keys) values (${keys}::text[])`.execute(trx)
      // First theirs and right after them ours: in between they are too high, and a crash then loses none.
      for (const other of others) await recount(other.primary, ids)
    })
    counted += ids.length
  }
}

async function recount(db: Db, ids: readonly Id[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await recountFollowers(db, ids)
      return
    } catch (error) {
      if (attempt === COUNT_ATTEMPTS || !isRetryable(error)) throw error
    }
  }
}
