import { setTimeout as wait } from 'node:timers/promises'
import { sqlstateOf } from '../database-errors.ts'
import type { Ends } from './align-rows.ts'
import type { AnnouncedMove } from './announcements.ts'
import { inTransaction, type CopyConnection } from './copy-connection.ts'
import { ShardRefusedError } from './shard-refused.ts'
import type { ReplicatedTable } from './sharded-table.ts'

/**
 * PostgreSQL's own logical replication of one shard's rows, from its source to its target, while the source goes on being
 * written: a publication and a slot on the source, a subscription on the target, all named after the move.
 *
 * The publication is made first and dropped last, so a source that has none of a move tells that nothing is left of it.
 */

const POLL_MS = 20
/** The target's server lets go of the source's slot a moment after the subscription is dropped. */
const SLOT_ATTEMPTS_MAX = 250
const OBJECT_IN_USE_SQLSTATE = '55006'

/** Begins it, with a copy of the rows that are there. The target must not have any of them. */
export async function beginReplication(
  { source, target }: Ends,
  { shard, moveId }: AnnouncedMove,
  tables: readonly ReplicatedTable[],
  sourceUrl: string,
): Promise<void> {
  const name = nameOf(moveId)
  const rows = tables.map((table) => `${table.name} where (${table.published(shard)})`)
  await source.query(`create publication ${name} for table ${rows.join(', ')}`)
  // Not made by the subscription: two nodes of one server would wait for each other.
  await source.query(`select pg_create_logical_replication_slot('${name}', 'pgoutput')`)
  // What is said to be replayed is on the target's disk.
  await target.query(`create subscription ${name} connection ${literal(libpqUrl(sourceUrl))} publication ${name}
    with (create_slot = false, slot_name = '${name}', synchronous_commit = 'local', enabled = false)`)
  // The target makes more slots on the source while it copies; by this they are known there, also when the target is dead.
  const [slots] = await target.query<{ pattern: string }>(`select 'pg_' || s.oid || '_sync_%_' || system_identifier as pattern
    from pg_subscription s, pg_control_system() where ${isOurs(moveId)}`)
  await source.query(`comment on publication ${name} is ${literal(slots?.pattern ?? '')}`)
  await target.query(`alter subscription ${name} enable`)
}

/**
 * Waits until the rows that were there are copied.
 *
 * @throws ShardRefusedError when the target's server says that something is wrong
 */
export async function replicationCopied(target: CopyConnection, { shard, moveId }: AnnouncedMove, sleep: Sleep): Promise<void> {
  for (;;) {
    const [state] = await target.query<{ open: number; errors: number }>(`
      select (select count(*)::int from pg_subscription_rel r where r.srsubid = s.oid and r.srsubstate <> 'r') as open,
        (select (e.apply_error_count + e.sync_error_count)::int from pg_stat_subscription_stats e where e.subid = s.oid) as errors
      from pg_subscription s where ${isOurs(moveId)}`)
    if (state === undefined) throw new ShardRefusedError(`The subscription of logical shard ${shard} is gone.`)
    if (state.errors > 0) throw new ShardRefusedError(`Replicating logical shard ${shard} fails: see the log of the target's server.`)
    if (state.open === 0) return
    await sleep(POLL_MS)
  }
}

/**
 * Waits until all that is committed on the source by now is on the target's disk.
 *
 * @param limitMs for how long at most
 * @returns how long it took
 * @throws ShardRefusedError when it takes longer
 */
export async function replicationCaughtUp(
  source: CopyConnection,
  { shard, moveId }: AnnouncedMove,
  limitMs: number,
  sleep: Sleep,
): Promise<number> {
  const startMs = performance.now()
  // A commit of ours: it takes all before it to the disk, from where alone they are sent.
  const [mark] = await source.query<{ lsn: string }>(`select pg_logical_emit_message(true, 'monogram', '')::text as lsn`)
  for (;;) {
    const [slot] = await source.query<{ done: boolean }>(`select confirmed_flush_lsn >= '${mark?.lsn ?? ''}' as done
      from pg_replication_slots where slot_name = '${nameOf(moveId)}'`)
    if (slot === undefined) throw new ShardRefusedError(`The replication slot of logical shard ${shard} is gone.`)
    const tookMs = performance.now() - startMs
    if (slot.done) return tookMs
    if (tookMs > limitMs) {
      throw new ShardRefusedError(`The target of logical shard ${shard} has not replayed in ${limitMs} ms what the source had written.`)
    }
    await sleep(POLL_MS)
  }
}

/** From when this resolves nothing more comes to the target. */
export async function endSubscription(target: CopyConnection, moveId: string): Promise<void> {
  const found = await target.query(`select from pg_subscription s where ${isOurs(moveId)}`)
  if (found.length === 0) return
  const name = nameOf(moveId)
  // Without its slot, which may be gone or out of reach: that is dropped where it is.
  await target.query(`alter subscription ${name} disable`)
  await target.query(`alter subscription ${name} set (slot_name = none)`)
  await target.query(`drop subscription ${name}`)
}

/**
 * Removes all that a move has left of its replication, from wherever it stopped. The target's rows stay.
 *
 * @param openTarget is called only when there is something
 * @param last is done when nothing comes to the target any more
 * @throws whatever a node says; the source's slots are gone then all the same if the source can be reached
 */
export async function endReplication(
  source: CopyConnection,
  openTarget: () => Promise<CopyConnection>,
  moveId: string,
  last: (target: CopyConnection) => Promise<void> = async () => {},
): Promise<void> {
  const publication = await source.query(`select from pg_publication where pubname = '${nameOf(moveId)}'`)
  if (publication.length === 0) return
  try {
    const target = await openTarget()
    await endSubscription(target, moveId)
    await last(target)
  } finally {
    // Whatever the target does, the source is not to keep its log for it.
    await dropSlots(source, moveId)
  }
  await source.query(`drop publication ${nameOf(moveId)}`)
}

/**
 * As `endReplication`, for a shard that is at home: deletes what has come to the target, too. Some of it the rows that
 * were copied by hand may not lead to, so nobody else would find it.
 *
 * @throws Error with SHARD_MOVED_SQLSTATE when the shard has departed
 */
export async function abandonReplication(
  source: CopyConnection,
  openTarget: () => Promise<CopyConnection>,
  { shard, moveId }: AnnouncedMove,
  tables: readonly ReplicatedTable[],
): Promise<void> {
  await endReplication(source, openTarget, moveId, async (target) => {
    try {
      await source.query('begin')
      // The door: a departure whose end we have not heard is over when we are let in.
      await source.query(`select enter_shard(${shard})`)
      await source.query(`select set_config('idle_in_transaction_session_timeout', '0', true)`)
      await deleteReplicated(target, { shard, moveId }, tables)
    } finally {
      // When the connection is lost, so is the transaction.
      await source.query('rollback').catch(() => undefined)
    }
  })
}

/** Deletes what a shard that is expected has of those tables, whatever leads to it. */
export async function deleteReplicated(
  target: CopyConnection,
  { shard, moveId }: Pick<AnnouncedMove, 'shard' | 'moveId'>,
  tables: readonly ReplicatedTable[],
): Promise<void> {
  await inTransaction(target, '', async () => {
    const expected = await target.query(`select from shard_state
      where shard = ${shard} and move_id = '${moveId}' and state = 'arriving' for update`)
    if (expected.length === 0) return
    for (const table of tables) await target.query(`delete from ${table.name} where ${table.published(shard)}`)
  })
}

type Sleep = (ms: number) => Promise<void>

async function dropSlots(source: CopyConnection, moveId: string): Promise<void> {
  const slots = `from pg_replication_slots where (slot_name = '${nameOf(moveId)}' or slot_name like (
    select obj_description(oid, 'pg_publication') from pg_publication where pubname = '${nameOf(moveId)}'))`
  for (let attempt = 1; ; attempt++) {
    try {
      await source.query(`select pg_terminate_backend(active_pid) ${slots} and active_pid is not null`)
      await source.query(`select pg_drop_replication_slot(slot_name) ${slots}`)
      return
    } catch (error) {
      if (sqlstateOf(error) !== OBJECT_IN_USE_SQLSTATE || attempt === SLOT_ATTEMPTS_MAX) throw error
      await wait(POLL_MS)
    }
  }
}

/** Good for a slot, too: lower case, digits and underscores. */
function nameOf(moveId: string): string {
  return `monogram_move_${moveId.replaceAll('-', '_')}`
}

function isOurs(moveId: string): string {
  return `s.subname = '${nameOf(moveId)}' and s.subdbid = (select oid from pg_database where datname = current_database())`
}

/** What pg calls no-verify, PostgreSQL's own client calls require. */
function libpqUrl(url: string): string {
  return url.replace(/([?&]sslmode=)no-verify\b/, '$1require')
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}
