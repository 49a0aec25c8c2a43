import { sql, type Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '../advisory-locks.ts'
import { sqlstateOf } from '../database-errors.ts'
import { completeHandover, type OnArrival } from '../handover.ts'
import { straysAmong } from '../shard-state.ts'
import { alignRows, copyAhead, readColumns, STEADY, type Aligned, type ColumnsOf, type Ends } from './align-rows.ts'
import type { AnnouncedMove } from './announcements.ts'
import { cleanShard } from './clean-shard.ts'
import { inTransaction } from './copy-connection.ts'
import type { ShardedTables } from './sharded-table.ts'

/** A node as a mover sees it. */
export interface MoverNode<DB> {
  readonly name: string
  readonly primary: Kysely<DB>
}

/** The steps of one shard's move, each told of when it is done. */
export type MoveStep = 'expected' | 'copied' | 'locked' | 'verified' | 'departed' | 'arrived'

/** What moving a shard needs. */
export interface Mover<DB> {
  readonly directory: Kysely<DB>
  readonly tables: ShardedTables
  readonly onArrival: OnArrival<DB>
  /** Connections of the pair of nodes, one each; kept from shard to shard. */
  connect(move: AnnouncedMove): Promise<Ends>
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

/** A shard that cannot be moved as things are, though its nodes are well. */
export class ShardRefusedError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ShardRefusedError'
  }
}

/** Writers queue behind us while we wait for the lock, so we do not wait long. */
const LOCK_TIMEOUT_MS = 500
const LOCK_ATTEMPTS_MAX = 20
const LOCK_RETRY_MS = 500
const LOCK_NOT_AVAILABLE_SQLSTATE = '55P03'
const QUERY_CANCELED_SQLSTATE = '57014'
/** A copy that has taken longer is caught up with before the door is shut: what changed meanwhile is for the pause. */
const AHEAD_SHORT_MS = 5_000
const AHEAD_PASSES_MAX = 4
/** Beyond the pause: when we hang, the server ends our transaction, and with it the pause. */
const HANG_MARGIN_MS = 1_000
const CLEAN_BATCH_ROWS = 5_000

/**
 * Moves one announced shard, whose announcement is older than `MAP_LEASE_MS`. Safe to run again after an end at any step.
 *
 *   expected   the target says `arriving`: nothing there counts yet
 *   copied     its rows are there, as of some moment; nobody has waited for it
 *   locked     the source's door is shut: writes of this shard wait
 *   verified   what changed since is copied; counts and checksums of all rows are equal
 *   departed   the decisive step, one commit on the source. Whoever meets the shard from now on may do the rest
 *   arrived    `completeHandover`
 *
 * @throws ShardRefusedError when it stays where it is and others may go on; otherwise whatever a node says: the shard is
 *   then at home, or departed, as the source says
 */
export async function moveShard<DB>(
  mover: Mover<DB>,
  move: AnnouncedMove,
  source: MoverNode<DB>,
  target: MoverNode<DB>,
): Promise<ShardMoved> {
  const { shard, moveId } = move
  const tell = (step: MoveStep): Promise<void> => mover.onStep(step, shard)
  const arrive = async (): Promise<void> => {
    await completeHandover({ shard, moveId, source: source.name, target, directory: mover.directory, onArrival: mover.onArrival })
    await tell('arrived')
  }
  const [stray] = await straysAmong(source.primary, [shard])
  if (stray?.moveId === moveId) {
    await arrive()
    return { shard, rows: 0, pauseMs: 0 }
  }
  if (stray !== undefined) throw new ShardRefusedError(`Logical shard ${shard} is not at home on ${source.name}.`)

  await expectShard(mover, move, target)
  await tell('expected')
  const ends = await mover.connect(move)
  for (let pass = 1; pass <= AHEAD_PASSES_MAX; pass++) {
    const startMs = performance.now()
    await betweenEnds(mover, move, ends, 0, (columns) => copyAhead(ends, mover.tables.moved, columns, shard))
    if (performance.now() - startMs < AHEAD_SHORT_MS) break
  }
  await tell('copied')
  const { rows, sinceMs } = await departPatiently(mover, move, source, async () => {
    await tell('locked')
    const align = (columns: ColumnsOf): Promise<Aligned> => alignRows(ends, mover.tables.moved, columns, shard)
    const aligned = await betweenEnds(mover, move, ends, mover.maxPauseMs, align).catch((error: unknown) => {
      if (sqlstateOf(error) !== QUERY_CANCELED_SQLSTATE) throw error
      throw new ShardRefusedError(`Comparing the rows of logical shard ${shard} takes more than ${mover.maxPauseMs} ms.`)
    })
    await tell('verified')
    return aligned.rows
  })
  await tell('departed')
  await arrive()
  return { shard, rows, pauseMs: performance.now() - sinceMs }
}

/** The target says that it is on its way there; what an old stay of it has left is deleted first. */
async function expectShard<DB>(mover: Mover<DB>, { shard, moveId, source }: AnnouncedMove, target: MoverNode<DB>): Promise<void> {
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

/**
 * Runs `work` in a transaction of each end: on a snapshot of the source, and on a target that expects this very move.
 *
 * @param statementMs how long each of their statements may take; 0: as long as it wants
 */
async function betweenEnds<DB, T>(
  { tables }: Mover<DB>,
  { shard, moveId, target }: AnnouncedMove,
  ends: Ends,
  statementMs: number,
  work: (columns: ColumnsOf) => Promise<T>,
): Promise<T> {
  const columns = await readColumns(ends.source, tables.moved)
  const steady = `${STEADY}, set_config('statement_timeout', '${statementMs}', true)`
  return inTransaction(ends.source, 'isolation level repeatable read read only', async () => {
    await ends.source.query(steady)
    return inTransaction(ends.target, '', async () => {
      await ends.target.query(steady)
      const expected = await ends.target.query(`select from shard_state
        where shard = ${shard} and move_id = '${moveId}' and state = 'arriving' for update`)
      if (expected.length === 0) throw new ShardRefusedError(`Logical shard ${shard} is not expected on ${target} any more.`)
      return work(columns)
    })
  })
}

/** Shuts the door, does `work`, and lets the shard depart with the commit; again while the lock is not to be had. */
async function departPatiently<DB>(
  mover: Mover<DB>,
  move: AnnouncedMove,
  source: MoverNode<DB>,
  work: () => Promise<number>,
): Promise<{ readonly rows: number; readonly sinceMs: number }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await depart(mover, move, source, work)
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
  source: MoverNode<DB>,
  work: () => Promise<number>,
): Promise<{ readonly rows: number; readonly sinceMs: number }> {
  const sinceMs = performance.now()
  return source.primary.transaction().execute(async (trx) => {
    await sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('idle_in_transaction_session_timeout', ${`${mover.maxPauseMs + HANG_MARGIN_MS}ms`}, true)`.execute(trx)
    await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.door}, ${shard})`.execute(trx)
    const rows = await work()
    const pauseMs = Math.round(performance.now() - sinceMs)
    if (pauseMs > mover.maxPauseMs) {
      throw new ShardRefusedError(`Writes of logical shard ${shard} had waited ${pauseMs} ms, of ${mover.maxPauseMs} at most.`)
    }
    await mover.assertOnly()
    await sql`insert into shard_state (shard, state, peer, move_id)
      values (${shard}, 'departed', ${target}, ${moveId})`.execute(trx)
    return { rows, sinceMs }
  })
}
