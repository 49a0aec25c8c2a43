import { sql } from 'kysely'
import type { Kysely, RawBuilder, Transaction } from 'kysely'
import { SEQUENCE_COUNT } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '../postgres/advisory-locks.ts'
import type { Grant, LeaseRequest, LeaseSource, NoLane } from './lease-source.ts'

export const LEASE_MS = 60_000
/**
 * By how much the clock of a promoted server may lag the old one's unnoticed. So a lease this near its end is not renewed,
 * for by the old clock it may have been over, and its lane granted anew in a grant that was lost; and lost grants may
 * last so much longer than one lease from the failover.
 */
const CLOCK_LAG_MS = 5_000
const LOCK_TIMEOUT_MS = 3_000
const STATEMENT_TIMEOUT_MS = 5_000

/** What the ledger senses of its server; tests put their own in place. */
export interface LedgerSenses {
  /** The server's clock, in Unix milliseconds, as an expression of SQL. */
  readonly nowMs: RawBuilder<unknown>
  /** Changes when a standby is promoted: the first eight hex digits of a WAL file's name. Fails on a standby. */
  readonly timeline: RawBuilder<unknown>
}

export const serverSenses: LedgerSenses = {
  nowMs: sql`floor(extract(epoch from clock_timestamp()) * 1000)`,
  timeline: sql`left(pg_walfile_name(pg_current_wal_lsn()), 8)`,
}

/** What a transaction knows of the ledger once it holds the lock. All times in Unix milliseconds. */
export interface LedgerMoment {
  readonly nowMs: number
  /** No lease begins before. */
  readonly grantsFromMs: number
}

/**
 * The ledger as a source of leases.
 *
 * A lease is a rectangle of sequence numbers × id time, and the table's exclusion constraint keeps rectangles apart.
 * Everything else here picks rectangles that it will accept, and covers the two ways in which the table could forget
 * one: a failover that loses the last grants (no grant begins within a lease of the first sight of a new timeline)
 * and the deletion of old rows (no grant begins before the end of a deleted one).
 *
 * @param db the directory's primary: direct, or through PgBouncer in transaction mode
 */
export function createLedger<DB>(db: Kysely<DB>, senses: LedgerSenses = serverSenses): LeaseSource {
  return {
    grant: (request) => inLedger(db, senses, (trx, moment) => grantLane(trx, moment, request)),
    renew: (leaseId) => inLedger(db, senses, (trx, moment) => renewLease(trx, moment, leaseId)),
    release: (leaseId, usedUntilMs) => inLedger(db, senses, (trx) => releaseLease(trx, leaseId, usedUntilMs)),
  }
}

/**
 * Runs `work` in a transaction that alone may change the ledger, after taking note of a failover.
 * The lock comes in a statement of its own: the next one's snapshot and clock are later than the wait.
 */
export function inLedger<DB, T>(
  db: Kysely<DB>,
  senses: LedgerSenses,
  work: (trx: Transaction<DB>, moment: LedgerMoment) => Promise<T>,
): Promise<T> {
  return db.transaction().execute(async (trx) => {
    await sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true),
      set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true)`.execute(trx)
    await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.idLedger})`.execute(trx)
    return work(trx, await readMoment(trx, senses))
  })
}

async function readMoment<DB>(trx: Transaction<DB>, senses: LedgerSenses): Promise<LedgerMoment> {
  const { rows } = await sql<{ now_ms: number; grants_from_ms: number; known: string; timeline: string }>`
    select ${senses.nowMs}::float8 as now_ms, grants_from_ms::float8, timeline as known, ${senses.timeline} as timeline
    from id_ledger_state`.execute(trx)
  const [state] = rows
  if (state === undefined) throw new Error('The id ledger has no state row: its migration did not run.')
  const nowMs = state.now_ms
  if (state.known === state.timeline) return { nowMs, grantsFromMs: state.grants_from_ms }

  // Grants made before the failover may be lost, and run for one lease at most from then, by the old server's clock.
  const grantsFromMs = Math.max(state.grants_from_ms, nowMs + LEASE_MS + CLOCK_LAG_MS, await endOfEarlierClock(trx, nowMs))
  await sql`update id_ledger_state set timeline = ${state.timeline}, grants_from_ms = ${grantsFromMs}`.execute(trx)
  return { nowMs, grantsFromMs }
}

/**
 * A lease that ends more than one lease from now was granted by a clock that was ahead of ours: what was lost was, too, and
 * ended within a lease of those that we know, all of which are renewed at half-life.
 */
async function endOfEarlierClock<DB>(trx: Transaction<DB>, nowMs: number): Promise<number> {
  const { rows } = await sql<{ until_ms: number | null }>`
    select max(upper(period))::float8 as until_ms from id_leases where upper(period) > ${nowMs + LEASE_MS}`.execute(trx)
  const untilMs = rows[0]?.until_ms ?? undefined
  return untilMs === undefined ? 0 : untilMs + LEASE_MS
}

interface LeaseRow {
  lease_id: string
  first_sequence: number
  end_sequence: number
  from_ms: number
  until_ms: number
}

const leaseColumns = sql`lease_id::text, lower(sequences) as first_sequence, upper(sequences) as end_sequence,
  lower(period)::float8 as from_ms, upper(period)::float8 as until_ms`

/** The lowest free lane, so that lanes of other widths find room above. Free means free from now, not from the start. */
async function grantLane<DB>(
  trx: Transaction<DB>,
  moment: LedgerMoment,
  { holder, laneWidth }: LeaseRequest,
): Promise<Grant | NoLane> {
  requireLaneWidth(laneWidth)
  const fromMs = Math.max(moment.nowMs, moment.grantsFromMs)
  const untilMs = fromMs + LEASE_MS
  const { rows } = await sql<LeaseRow>`
    insert into id_leases (holder, sequences, period)
    select ${holder}, int4range(first, first + ${laneWidth}::int), int8range(${fromMs}::int8, ${untilMs}::int8)
    from generate_series(0, ${SEQUENCE_COUNT - laneWidth}::int, ${laneWidth}::int) as first
    where not exists (
      select from id_leases
      where sequences && int4range(first, first + ${laneWidth}::int)
        and period && int8range(${moment.nowMs}::int8, ${untilMs}::int8))
    order by first
    limit 1
    returning ${leaseColumns}`.execute(trx)
  const [row] = rows
  return row === undefined ? noLane(trx, moment.nowMs) : toGrant(row, moment.nowMs)
}

async function noLane<DB>(trx: Transaction<DB>, nowMs: number): Promise<NoLane> {
  const { rows } = await sql<{ until_ms: number | null }>`
    select min(upper(period))::float8 as until_ms from id_leases where upper(period) > ${nowMs}`.execute(trx)
  return { leaseId: null, freeInMs: Math.max(1, (rows[0]?.until_ms ?? nowMs) - nowMs) }
}

async function renewLease<DB>(
  trx: Transaction<DB>,
  { nowMs }: LedgerMoment,
  leaseId: string,
): Promise<Grant | undefined> {
  const untilMs = nowMs + LEASE_MS
  const { rows } = await sql<LeaseRow>`
    update id_leases as mine
    set period = int8range(lower(period), greatest(upper(period), ${untilMs}::int8))
    where lease_id = ${leaseId}::uuid
      and upper(period) > ${nowMs + CLOCK_LAG_MS}
      and not exists (
        select from id_leases as other
        where other.lease_id <> mine.lease_id
          and other.sequences && mine.sequences
          and other.period && int8range(lower(mine.period), greatest(upper(mine.period), ${untilMs}::int8)))
    returning ${leaseColumns}`.execute(trx)
  const [row] = rows
  return row && toGrant(row, nowMs)
}

async function releaseLease<DB>(trx: Transaction<DB>, leaseId: string, usedUntilMs: number): Promise<void> {
  await sql`delete from id_leases where lease_id = ${leaseId}::uuid and lower(period) >= ${usedUntilMs}`.execute(trx)
  await sql`update id_leases set period = int8range(lower(period), ${usedUntilMs}::int8)
    where lease_id = ${leaseId}::uuid and upper(period) > ${usedUntilMs}`.execute(trx)
}

function toGrant(row: LeaseRow, ledgerNowMs: number): Grant {
  const { lease_id: leaseId, first_sequence: firstSequence, from_ms: fromMs, until_ms: untilMs } = row
  const sequenceCount = row.end_sequence - firstSequence
  return { leaseId, rectangle: { firstSequence, sequenceCount, fromMs, untilMs }, ledgerNowMs }
}

function requireLaneWidth(laneWidth: number): void {
  if (!Number.isInteger(laneWidth) || laneWidth < 1 || laneWidth > SEQUENCE_COUNT) {
    throw new RangeError(`A lane is 1 to ${SEQUENCE_COUNT} sequence numbers wide, not ${laneWidth}.`)
  }
}
