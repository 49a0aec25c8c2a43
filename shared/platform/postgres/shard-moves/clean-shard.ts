import { sql, type Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import type { PrimaryNode } from '../node.ts'
import { straysAmong, type StrayShard } from '../shard-state.ts'
import { STEADY } from './align-rows.ts'
import { deleteSome, type ShardedTables } from './sharded-table.ts'

/** After a shard has left its rows stay for so long: statements that began before may still read them. */
export const CLEAN_AFTER_MS = 10 * 60_000
const STATEMENT_TIMEOUT_MS = 25_000

export type Leftover = Pick<StrayShard, 'shard' | 'moveId'>

/**
 * The shards whose rows on a node are of no use any more: departed for `CLEAN_AFTER_MS`, and mapped to another node; or
 * expected for a move that was called off.
 *
 * @param nodes all of them: those that shards are expected from are asked
 * @throws whatever a node says
 */
export async function findLeftovers<DB>(
  directory: Kysely<DB>,
  node: PrimaryNode<DB>,
  nodes: readonly PrimaryNode<DB>[],
  graceMs = CLEAN_AFTER_MS,
): Promise<Leftover[]> {
  const { rows: old } = await sql<StrayShard>`
    select shard, state, peer, move_id as "moveId" from shard_state
    where state <> 'gone' and since < now() - ${graceMs} * interval '1 millisecond'
    order by shard`.execute(node.primary)
  if (old.length === 0) return []
  // A move that is still announced may not be over; and what the map leads here is being read.
  const { rows: settled } = await sql<{ shard: Shard }>`
    select m.shard from shard_map m
    where m.shard = any(${old.map(({ shard }) => shard)}::smallint[]) and m.node <> ${node.name}
      and not exists (select from shard_moves a where a.shard = m.shard)`.execute(directory)
  const isSettled = new Set(settled.map(({ shard }) => shard))
  const leftovers = old.filter(({ shard }) => isSettled.has(shard))
  const underWay = await findUnderWay(nodes, leftovers.filter(({ state }) => state === 'arriving'))
  return leftovers.filter(({ moveId }) => !underWay.has(moveId))
}

/** Of moves to a node those that have left their source after all: the directory may have forgotten an announcement. */
async function findUnderWay<DB>(nodes: readonly PrimaryNode<DB>[], arriving: readonly StrayShard[]): Promise<Set<string>> {
  const underWay = new Set<string>()
  for (const peer of new Set(arriving.map((stray) => stray.peer))) {
    const expected = arriving.filter((stray) => stray.peer === peer)
    const source = nodes.find(({ name }) => name === peer)
    const strays = source === undefined ? expected : await straysAmong(source.primary, expected.map(({ shard }) => shard))
    for (const { moveId } of strays) underWay.add(moveId)
  }
  return underWay
}

/**
 * Deletes what a shard has left on a node, and then marks it `gone`. Each batch is a transaction that holds the shard's
 * row of `shard_state`, so it ends when the shard begins to come back.
 *
 * @param options.batches how many at most; all when not said
 * @returns true when nothing is left
 */
export async function cleanShard<DB>(
  db: Kysely<DB>,
  tables: ShardedTables,
  leftover: Leftover,
  options: { readonly batchRows: number; readonly batches?: number },
): Promise<boolean> {
  for (let batch = 0; batch < (options.batches ?? Infinity); batch++) {
    if (!(await cleanBatch(db, tables, leftover, options.batchRows))) return true
  }
  return false
}

/** @returns true when there may be more */
async function cleanBatch<DB>(
  db: Kysely<DB>,
  { moved, left }: ShardedTables,
  { shard, moveId }: Leftover,
  batchRows: number,
): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    await sql.raw(`${STEADY}, set_config('statement_timeout', '${STATEMENT_TIMEOUT_MS}', true)`).execute(trx)
    const { rows: found } = await sql`select from shard_state
      where shard = ${shard} and move_id = ${moveId} and state <> 'gone' for update`.execute(trx)
    if (found.length === 0) return false
    // The rows by which others are found go last.
    for (const table of [...left, ...moved.toReversed()]) {
      const { numAffectedRows } = await sql.raw(deleteSome(table, shard, batchRows)).execute(trx)
      if (numAffectedRows !== undefined && numAffectedRows > 0n) return true
    }
    await sql`update shard_state set state = 'gone' where shard = ${shard}`.execute(trx)
    return false
  })
}
