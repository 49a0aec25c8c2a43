import { sql, type Kysely, type Transaction } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import type { PrimaryNode } from './node.ts'

/**
 * What the domain does in the transaction in which a shard arrives on its new node: from its commit on, node-wide
 * statements there count the shard in.
 */
export type OnArrival<DB> = (trx: Transaction<DB>, shard: Shard) => Promise<void>

/** One shard's change of nodes. */
export interface Handover<DB> {
  readonly shard: Shard
  readonly moveId: string
  readonly source: string
  readonly target: PrimaryNode<DB>
  readonly directory: Kysely<DB>
  readonly onArrival: OnArrival<DB>
}

/** Below what a pool waits for an answer: the server ends what nobody waits for any more. */
const STATEMENT_TIMEOUT_MS = 25_000
const LOCK_TIMEOUT_MS = 10_000
/** A process that hangs while a shard arrives keeps it from everybody else for no longer. */
const IDLE_TIMEOUT_MS = 20_000

/**
 * Completes a handover whose decisive step is done: the source says `departed`, in the transaction that held the shard's
 * lock exclusively. Whoever finds it so may go on from there, so a mover that dies leaves nothing standing still; each
 * step does nothing the second time. The shard arrives before the map leads anyone to it.
 */
export async function completeHandover<DB>(handover: Handover<DB>): Promise<void> {
  const { shard, moveId, source, target, directory, onArrival } = handover
  await target.primary.transaction().execute(async (trx) => {
    await sql`select set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true),
      set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('idle_in_transaction_session_timeout', ${`${IDLE_TIMEOUT_MS}ms`}, true)`.execute(trx)
    const arrived = await sql`delete from shard_state
      where shard = ${shard} and move_id = ${moveId} and state = 'arriving' returning shard`.execute(trx)
    if (arrived.rows.length > 0) await onArrival(trx, shard)
  })
  await directory.transaction().execute(async (trx) => {
    // Only this very move: the shard may long have gone on to other nodes.
    const mapped = await sql`update shard_map set node = ${target.name}
      from shard_moves m
      where shard_map.shard = ${shard} and shard_map.node = ${source}
        and m.shard = shard_map.shard and m.move_id = ${moveId} returning shard_map.shard`.execute(trx)
    if (mapped.rows.length > 0) await bumpMapVersion(trx)
  })
}

/**
 * Every change of shard_map or shard_moves ends with this, in its transaction. The version is the time, so that after a
 * failover of the directory that has lost some none of them comes again with another map.
 */
export async function bumpMapVersion<DB>(trx: Transaction<DB>): Promise<void> {
  await sql`update shard_map_version
    set version = greatest(version + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint)`.execute(trx)
}
