import { sql } from 'kysely'
import { EPOCH_MS, firstIdAt, msOf, type Id } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { sqlstateOf } from '#platform/postgres/database-errors.ts'
import type { Db } from '../database.ts'
import { partitionFloor } from './feed.rules.ts'

/** Months that stand ready beyond the present one. */
const AHEAD_MONTHS = 3
/** A queue behind our lock would stop every feed: rather fail, and try again at the next round. */
const LOCK_TIMEOUT_MS = 2_000
/** A vacuum, or a detach by a worker, may hold the parent for a while: a release should outlast it. */
const MAKE_ATTEMPTS_MAX = 8
/** A detach waits for every transaction that has read feeds. Beside a long one, a backup say, it is put off. */
const OLD_TRANSACTION_MS = 5_000
const LOCK_NOT_AVAILABLE_SQLSTATE = '55P03'

/** A calendar month, UTC, as a partition of feed_entries: published_id from `from` to before `to`. */
export interface FeedPartition {
  readonly name: string
  readonly from: Id
  readonly to: Id
}

type PartitionState = 'attached' | 'detaching' | 'detached'

/** The partition that a published_id belongs to, whether or not it exists. */
export function partitionOf(publishedId: Id): FeedPartition {
  const published = new Date(msOf(publishedId))
  return partitionOfMonth(published.getUTCFullYear(), published.getUTCMonth())
}

/** `month` counts from 0 and may overflow into other years, as in `Date.UTC`. */
function partitionOfMonth(year: number, month: number): FeedPartition {
  const first = new Date(Date.UTC(year, month, 1))
  const digits = String(first.getUTCMonth() + 1).padStart(2, '0')
  return {
    name: `feed_entries_${first.getUTCFullYear()}_${digits}`,
    from: firstIdAt(first.getTime()),
    to: firstIdAt(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 1)),
  }
}

/**
 * The partitions that must stand at `nowMs` (Unix milliseconds), oldest first: from the month of the oldest entry
 * that may still be kept to three months ahead. An id of a clock that is days off finds its partition.
 */
export function partitionsAt(nowMs: number): FeedPartition[] {
  const oldest = new Date(msOf(partitionFloor(nowMs)))
  const now = new Date(Math.max(nowMs, EPOCH_MS))
  const months =
    (now.getUTCFullYear() - oldest.getUTCFullYear()) * 12 + now.getUTCMonth() - oldest.getUTCMonth() + AHEAD_MONTHS
  return Array.from({ length: months + 1 }, (_, index) =>
    partitionOfMonth(oldest.getUTCFullYear(), oldest.getUTCMonth() + index),
  )
}

/**
 * Makes the partitions of a node that must stand at `nowMs` and do not yet. Safe to run twice and at once.
 *
 * Each is made as a table of its own and then attached, since CREATE TABLE … PARTITION OF would lock the parent
 * against every read and write. It is empty, so attaching has nothing to check.
 *
 * @returns the names of those it made, oldest first
 * @throws DatabaseError 55P03 when a lock is not to be had in time; what was made until then stays
 */
export async function ensurePartitions(db: Db, nowMs: number): Promise<string[]> {
  const states = await readPartitionStates(db)
  const missing = partitionsAt(nowMs).filter((partition) => !states.has(partition.name))
  const made: string[] = []
  for (const partition of missing) {
    if (await makePartitionPatiently(db, partition)) made.push(partition.name)
  }
  return made
}

async function makePartitionPatiently(db: Db, partition: FeedPartition): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await makePartition(db, partition)
    } catch (error) {
      if (sqlstateOf(error) !== LOCK_NOT_AVAILABLE_SQLSTATE || attempt === MAKE_ATTEMPTS_MAX) throw error
    }
  }
}

async function makePartition(db: Db, { name, from, to }: FeedPartition): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    await sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true)`.execute(trx)
    await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.feedPartitions})`.execute(trx)
    if ((await readPartitionStates(trx)).has(name)) return false
    await sql`create table ${sql.table(name)} (like feed_entries including all)`.execute(trx)
    await sql`alter table feed_entries attach partition ${sql.table(name)}
      for values from (${sql.lit(from)}) to (${sql.lit(to)})`.execute(trx)
    return true
  })
}

/**
 * Detaches and drops a node's partitions that are wholly older than what is kept at `nowMs`, and finishes what a
 * crash left half done. Safe to run twice and at once: whoever comes second leaves it to the first.
 *
 * @returns the names of those it dropped
 * @throws DatabaseError of any kind but the lack of a lock and the signs that another run was quicker
 */
export async function dropExpiredPartitions(db: Db, nowMs: number): Promise<string[]> {
  const floor = partitionFloor(nowMs)
  const dropped: string[] = []
  for (const [name, state] of await readPartitionStates(db)) {
    if (endOf(name) > floor) continue
    if (state !== 'detached' && (await hasOldTransaction(db))) continue
    try {
      await detachPartition(db, name, state)
      await dropTable(db, name)
      dropped.push(name)
    } catch (error) {
      if (!isLostRace(error)) throw error
    }
  }
  return dropped
}

/** True while a transaction that began some seconds ago still holds the feeds, as far as our role is told. */
async function hasOldTransaction(db: Db): Promise<boolean> {
  const { rows } = await sql`
    select from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.relation = 'feed_entries'::regclass and a.datname = current_database()
      and a.xact_start < now() - ${OLD_TRANSACTION_MS} * interval '1 millisecond' limit 1`.execute(db)
  return rows.length > 0
}

/** CONCURRENTLY lets reads and writes go on, and for that will not run inside a transaction. */
async function detachPartition(db: Db, name: string, state: PartitionState): Promise<void> {
  if (state === 'detached') return
  const how = sql.raw(state === 'detaching' ? 'finalize' : 'concurrently')
  await sql`alter table feed_entries detach partition ${sql.table(name)} ${how}`.execute(db)
}

async function dropTable(db: Db, name: string): Promise<void> {
  await db.transaction().execute(async (trx) => {
    await sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true)`.execute(trx)
    await sql`drop table if exists ${sql.table(name)}`.execute(trx)
  })
}

/**
 * Every table that is or was a partition of feed_entries, by name, with how it stands to its parent: oldest first,
 * but before all others one that is half detached, as PostgreSQL detaches no second one until that is finished.
 */
async function readPartitionStates(db: Db): Promise<Map<string, PartitionState>> {
  const { rows } = await sql<{ name: string; state: PartitionState }>`
    select c.relname as name,
      case when i.inhrelid is null then 'detached' when i.inhdetachpending then 'detaching' else 'attached' end as state
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid
    where c.relnamespace = (select relnamespace from pg_class where oid = 'feed_entries'::regclass)
      and c.relkind = 'r' and c.relname ~ '^feed_entries_[0-9]{4}_[0-9]{2}$'
    order by coalesce(i.inhdetachpending, false) desc, c.relname`.execute(db)
  return new Map(rows.map((row) => [row.name, row.state]))
}

function endOf(name: string): Id {
  const [year = 0, month = 0] = name.split('_').slice(2).map(Number)
  return partitionOfMonth(year, month - 1).to
}

/**
 * No such table, no such partition, "already pending detach", "not pending detach", no lock in time, deadlock of
 * two who finish the same: the next round sees what is left to do.
 */
const LOST_RACE_SQLSTATES = new Set([
  '42P01', '42809', '55000', '40P01', '55006', '2BP01', LOCK_NOT_AVAILABLE_SQLSTATE,
])

function isLostRace(error: unknown): boolean {
  return LOST_RACE_SQLSTATES.has(sqlstateOf(error) ?? '')
}
