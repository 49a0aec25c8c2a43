import { sql, type Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import type { StrayShard } from '../shard-state.ts'
import { STEADY } from './align-rows.ts'
import { deleteSome, type ShardedTables } from './sharded-table.ts'

/** After a shard has left its rows stay for so long: statements that began before may still read them. */
export const CLEAN_AFTER_MS = 10 * 60_000
const STATEMENT_TIMEOUT_MS = 25_000

export type Leftover = Pick<StrayShard, 'shard' | 'moveId'>

/**
 * The shards whose rows on a node are of no use any more: departed for `CLEAN_AFTER_MS`, and mapped to another node; or
 * expected for a move that was called off.
 */
export async function findLeftovers<DB>(
  directory: Kysely<DB>,
  node: { readonly name: string; readonly primary: Kysely<DB> },
  graceMs = CLEAN_AFTER_MS,
): Promise<Leftover[]> {
  const { rows: old } = await sql<Leftover>`
    select shard, move_id as "moveId" from shard_state
    where state <> 'gone' and since < now() - ${graceMs} * interval '1 millisecond'
    order by shard`.execute(node.primary)
  if (old.length === 0) return []
  // A move that is still announced may not be over; and what the map leads here is being read.
  const { rows: settled } = await sql<{ shard: Shard }>`
    select m.shard from shard_map m
    where m.shard = any(${old.map(({ shard }) => shard)}::smallint[]) and m.node <> ${node.name}
      and not exists (select from shard_moves a where a.shard = m.shard)`.execute(directory)
  const isSettled = new Set(settled.map(({ shard }) => shard))
  return old.filter(({ shard }) => isSettled.has(shard))
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
