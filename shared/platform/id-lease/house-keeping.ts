import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import { SEQUENCE_COUNT } from '#kernel/snowflake.ts'
import { inLedger, serverSenses } from './ledger.ts'
import type { LedgerSenses } from './ledger.ts'

/**
 * How long a lease that is over stays in the ledger. Deleting one moves the earliest start of new leases to its end;
 * while the row is there, a clock that was wrong for less than this can be set right without that delay.
 */
const RETENTION_MS = 24 * 3_600_000
const EXPIRE_BATCH_ROWS = 1_000
/** Warn when fewer lanes than this share are free: there is still time to narrow them. */
const FREE_SHARE_MIN = 0.25

/** How full the ledger is now, for lanes of one width. */
export interface LedgerOccupancy {
  /** Leases that are not over. */
  readonly leases: number
  /** Of 1,024. */
  readonly sequencesTaken: number
  readonly lanesFree: number
  readonly lanesTotal: number
}

/**
 * Deletes leases that ended long ago, oldest first, a batch at a time.
 * @returns how many it deleted; fewer than a batch means that none is left
 */
export function expireLeases<DB>(db: Kysely<DB>, senses: LedgerSenses = serverSenses): Promise<number> {
  return inLedger(db, senses, async (trx, { nowMs }) => {
    const { rows } = await sql<{ until_ms: number }>`
      delete from id_leases
      where lease_id in (
        select lease_id from id_leases
        where upper(period) < ${nowMs - RETENTION_MS}
        order by upper(period)
        limit ${EXPIRE_BATCH_ROWS})
      returning upper(period)::float8 as until_ms`.execute(trx)
    if (rows.length === 0) return 0
    const latestMs = Math.max(...rows.map((row) => row.until_ms))
    await sql`update id_ledger_state set grants_from_ms = greatest(grants_from_ms, ${latestMs}::int8)`.execute(trx)
    return rows.length
  })
}

/**
 * Counts what is taken now. Reads only, without the ledger's lock.
 * @param laneWidth the width that processes ask for, 1 … 1,024
 */
export async function readOccupancy<DB>(
  db: Kysely<DB>,
  laneWidth: number,
  senses: LedgerSenses = serverSenses,
): Promise<LedgerOccupancy> {
  const { rows } = await sql<{ leases: number; sequences_taken: number; lanes_taken: number }>`
    with live as materialized (
      select sequences from id_leases, (select ${senses.nowMs}::int8 as now_ms) as clock where upper(period) > now_ms)
    select (select count(*)::int from live) as leases,
      (select coalesce(sum(upper(part) - lower(part)), 0)::int from (
        select unnest(range_agg(sequences)) as part from live) as parts) as sequences_taken,
      (select count(*)::int from generate_series(0, ${SEQUENCE_COUNT - laneWidth}::int, ${laneWidth}::int) as first
        where exists (select from live where sequences && int4range(first, first + ${laneWidth}::int))) as lanes_taken
  `.execute(db)
  const [row] = rows
  if (row === undefined) throw new Error('The id ledger did not answer.')
  const lanesTotal = Math.floor(SEQUENCE_COUNT / laneWidth)
  return {
    leases: row.leases,
    sequencesTaken: row.sequences_taken,
    lanesFree: lanesTotal - row.lanes_taken,
    lanesTotal,
  }
}

/** What to tell the operator while lanes run out, or undefined while there are plenty. */
export function warnOfOccupancy({ lanesFree, lanesTotal }: LedgerOccupancy): string | undefined {
  if (lanesFree >= lanesTotal * FREE_SHARE_MIN) return undefined
  return (
    `Only ${lanesFree} of ${lanesTotal} id lanes are free: ` +
    'with none left, new processes cannot mint ids. Halve the lane width, or run fewer processes.'
  )
}
