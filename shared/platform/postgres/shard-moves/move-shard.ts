import { sql, type Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '../advisory-locks.ts'
import { sqlstateOf } from '../database-errors.ts'
import { completeHandover, type OnArrival } from '../handover.ts'
import type { PrimaryNode } from '../node.ts'
import { straysAmong } from '../shard-state.ts'
import { copyShardAhead, replicateShardAhead, type FinishCopy } from './ahead.ts'
import type { AnnouncedMove } from './announcements.ts'
import { cleanShard } from './clean-shard.ts'
import type { OpenEnds } from './open-ends.ts'
import { abandonReplication, endReplication } from './replication.ts'
import { ShardRefusedError } from './shard-refused.ts'
import type { ShardedTables } from './sharded-table.ts'

/** The steps of one shard's move, each told of when it is done. */
export type MoveStep = 'expected' | 'copied' | 'locked' | 'verified' | 'departed' | 'arrived'

/** By COPY, through the mover; or by PostgreSQL's logical replication, where servers allow it: for shards too big to pause. */
export const MOVE_VIAS = ['copy', 'replication'] as const
export type MoveVia = (typeof MOVE_VIAS)[number]

/** What moving a shard needs. */
export interface Mover<DB> {
  readonly directory: Kysely<DB>
  readonly tables: ShardedTables
  readonly onArrival: OnArrival<DB>
  /** How long `onArrival` will take, roughly, with the rows that are on the target: part of the pause. */
  arrivalMs(target: Kysely<DB>, shard: Shard): Promise<number>
  /** Connections of the nodes, one each; kept from shard to shard. */
  readonly ends: Pick<OpenEnds, 'to' | 'urlOf'>
  /** How the rows get there while the source is still written. */
  readonly via: MoveVia
  /** Throws when somebody else may be moving shards by now. */
  assertOnly(): Promise<void>
  /** The longest that writes of a shard may be made to wait; the shard stays where it is otherwise. */
  readonly maxPauseMs: number
  sleep(ms: number): Promise<void>
  onStep(step: MoveStep, shard: Shard): Promise<void>
}

/** How a move went. */
export interface ShardMoved {
  readonly shard: Shard
  readonly rows: number
  /** For how long writes of the shard waited. */
  readonly pauseMs: number
}

/** Writers queue behind us while we wait for the lock, so we do not wait long. */
const LOCK_TIMEOUT_MS = 500
const LOCK_ATTEMPTS_MAX = 20
const LOCK_RETRY_MS = 500
const LOCK_NOT_AVAILABLE_SQLSTATE = '55P03'
const QUERY_CANCELED_SQLSTATE = '57014'
/** Beyond the pause: when we hang, the server ends our transaction, and with it the pause. */
const HANG_MARGIN_MS = 1_000
const CLEAN_BATCH_ROWS = 5_000

/**
 * Moves one announced shard, whose announcement is older than `MAP_LEASE_MS`. Safe to run again after an end at any step.
 *
 *   expected   the target says `arriving`: nothing there counts yet
 *   copied     its rows are there, as of some moment or by replication; nobody has waited for it
 *   locked     the source's door is shut: writes of this shard wait
 *   verified   what changed since is copied; counts and checksums are equal, as `ahead.ts` says
 *   departed   the decisive step, one commit on the source. Whoever meets the shard from now on may do the rest
 *   arrived    `completeHandover`
 *
 * @throws ShardRefusedError when it stays where it is and others may go on; otherwise whatever a node says: the shard is
 *   then at home, or departed, as the source says
 */
export async function moveShard<DB>(
  mover: Mover<DB>,
  move: AnnouncedMove,
  source: PrimaryNode<DB>,
  target: PrimaryNode<DB>,
): Promise<ShardMoved> {
  const { shard, moveId } = move
  const tell = (step: MoveStep): Promise<void> => mover.onStep(step, shard)
  const arrive = async (): Promise<void> => {
    await completeHandover({ shard, moveId, source: source.name, target, directory: mover.directory, onArrival: mover.onArrival })
    await tell('arrived')
    await endReplication(await mover.ends.to(source.name), () => mover.ends.to(target.name), moveId)
  }
  const [stray] = await straysAmong(source.primary, [shard])
  if (stray?.moveId === moveId) {
    await arrive()
    return { shard, rows: 0, pauseMs: 0 }
  }
  if (stray !== undefined) throw new ShardRefusedError(`Logical shard ${shard} is not at home on ${source.name}.`)

  await expectShard(mover, move, target)
  await tell('expected')
  const ends = { source: await mover.ends.to(source.name), target: await mover.ends.to(target.name) }
  await abandonReplication(ends.source, () => mover.ends.to(target.name), move, mover.tables.replicated)
  const finish: FinishCopy = mover.via === 'copy'
    ? await copyShardAhead(mover, move, ends)
    : await replicateShardAhead(mover, move, ends, mover.ends.urlOf(source.name))
  await tell('copied')
  const arrivalMs = Math.round(await mover.arrivalMs(target.primary, shard))
  const { rows, sinceMs } = await departPatiently(mover, move, source, arrivalMs, async () => {
    await tell('locked')
    const rows = await finish().catch((error: unknown) => {
      if (sqlstateOf(error) !== QUERY_CANCELED_SQLSTATE) throw error
      throw new ShardRefusedError(`Comparing the rows of logical shard ${shard} takes more than ${mover.maxPauseMs} ms.`)
    })
    await tell('verified')
    return rows
  })
  await tell('departed')
  await arrive()
  return { shard, rows, pauseMs: performance.now() - sinceMs }
}

/** The target says that it is on its way there; what an old stay of it has left is deleted first. */
async function expectShard<DB>(mover: Mover<DB>, { shard, moveId, source }: AnnouncedMove, target: PrimaryNode<DB>): Promise<void> {
  const [stray] = await straysAmong(target.primary, [shard])
  if (stray?.state === 'departed') {
    await cleanShard(target.primary, mover.tables, stray, { batchRows: CLEAN_BATCH_ROWS })
  }
  const expected = await sql`
    insert into shard_state as s (shard, state, peer, move_id) values (${shard}, 'arriving', ${source}, ${moveId})
    on conflict (shard) do update set state = 'arriving', peer = excluded.peer, move_id = excluded.move_id, since = now()
      where s.state <> 'departed' returning shard`.execute(target.primary)
  if (expected.rows.length === 0) throw new ShardRefusedError(`What logical shard ${shard} has left on ${target.name} is not deleted yet.`)
}

/** Shuts the door, does `work`, and lets the shard depart with the commit; again while the lock is not to be had. */
async function departPatiently<DB>(
  mover: Mover<DB>,
  move: AnnouncedMove,
  source: PrimaryNode<DB>,
  arrivalMs: number,
  work: () => Promise<number>,
): Promise<{ readonly rows: number; readonly sinceMs: number }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await depart(mover, move, source, arrivalMs, work)
    } catch (error) {
      if (sqlstateOf(error) !== LOCK_NOT_AVAILABLE_SQLSTATE) throw error
      if (attempt === LOCK_ATTEMPTS_MAX) {
        throw new ShardRefusedError(`Logical shard ${move.shard} is written without a break: its lock was not to be had.`)
      }
      await mover.sleep(LOCK_RETRY_MS * (0.5 + Math.random()))
    }
  }
}

async function depart<DB>(
  mover: Mover<DB>,
  { shard, moveId, target }: AnnouncedMove,
  source: PrimaryNode<DB>,
  arrivalMs: number,
  work: () => Promise<number>,
): Promise<{ readonly rows: number; readonly sinceMs: number }> {
  const sinceMs = performance.now()
  let refusal: ShardRefusedError | undefined
  const departure = source.primary.transaction().execute(async (trx) => {
    await sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('idle_in_transaction_session_timeout', ${`${mover.maxPauseMs + HANG_MARGIN_MS}ms`}, true)`.execute(trx)
    await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.door}, ${shard})`.execute(trx)
    const rows = await work()
    const pauseMs = Math.round(performance.now() - sinceMs)
    if (pauseMs + arrivalMs > mover.maxPauseMs) {
      const more = arrivalMs === 0 ? '' : ` and its arrival takes ${arrivalMs} more`
      throw (refusal = new ShardRefusedError(`Writes of logical shard ${shard} had waited ${pauseMs} ms${more}, of ${mover.maxPauseMs} at most.`))
    }
    await mover.assertOnly()
    await sql`insert into shard_state (shard, state, peer, move_id)
      values (${shard}, 'departed', ${target}, ${moveId})`.execute(trx)
    return { rows, sinceMs }
  })
  // When the server has ended the transaction for it, the rollback fails.
  return departure.catch((error: unknown) => {
    throw refusal ?? error
  })
}
