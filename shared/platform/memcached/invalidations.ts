import { sql, type QueryExecutorProvider } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import type { Logger } from '../logger/logger.ts'
import { LIFE_SECONDS_MAX, type Cache } from './cache.ts'

/** Keys that a transaction has made stale, and the row that remembers them. */
export interface Invalidation {
  readonly id: bigint
  readonly keys: readonly string[]
}

/** Cache invalidation that a crash between commit and delete does not lose. */
export interface Invalidations {
  /**
   * Writes down, in the transaction of the change, which keys it makes stale; nothing while the cache is off.
   * @param trx the transaction, on the node of the change
   */
  record(trx: QueryExecutorProvider, keys: readonly string[]): Promise<Invalidation | undefined>
  /**
   * To be awaited after the commit and before the change is acknowledged: deletes the keys. The row goes in the
   * background once every delete is confirmed; otherwise the sweeper does it all again. Never throws.
   * @param db the node of the transaction
   */
  complete(db: QueryExecutorProvider, invalidation: Invalidation | undefined): Promise<void>
  /** Settles when the rows of what was completed are deleted. */
  idle(): Promise<void>
}

/** Younger rows are still in the hands of the process that wrote them. */
const SWEEP_AGE_MS = 1_000
/**
 * Older rows need no delete. A value from before the change was fetched before the commit and stored within its lease,
 * so it has expired a value's life and some seconds after the commit, under whichever generation. The margin is for
 * those seconds, for what a transaction takes after `record`, and for the clocks of a primary and its successor. It
 * rests on memcached's clock: one whose machine was suspended for longer has to be restarted (docs/operations.md).
 */
const EXPIRY_MARGIN_MS = 300_000
const EXPIRED_AGE_MS = LIFE_SECONDS_MAX * 1_000 + EXPIRY_MARGIN_MS
/** Rows of one statement. */
const BATCH_ROWS = 500
/** Batches of one sweep: what is beyond waits for the next. */
const SWEEP_BATCHES_MAX = 100
/** How long rows that could not be confirmed are passed over, for the sake of PostgreSQL. */
const SWEEP_AGAIN_MS = 3_000

/** Makes the invalidations of one process. */
export function createInvalidations(cache: Cache, log: Logger): Invalidations {
  /** Ids of rows to delete, by node; those that gather while a statement runs go in the next one. */
  const confirmed = new Map<QueryExecutorProvider, bigint[]>()
  const deleting = new Map<QueryExecutorProvider, Promise<void>>()

  async function deleteConfirmed(db: QueryExecutorProvider): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    for (let ids = confirmed.get(db); ids !== undefined; ids = confirmed.get(db)) {
      confirmed.delete(db)
      await deleteRows(db, ids).catch((error: unknown) => {
        log.warn({ err: error, rows: ids.length }, 'rows of cache invalidations are left to the sweeper')
      })
    }
    deleting.delete(db)
  }

  return {
    async record(trx, keys) {
      if (!cache.isEnabled || keys.length === 0) return undefined
      const { rows } = await sql<{ id: bigint }>`
        insert into cache_invalidations (keys, recorded_at)
        values (${[...keys]}::text[], clock_timestamp()) returning id`.execute(trx)
      const [row] = rows
      return row && { id: row.id, keys }
    },
    async complete(db, invalidation) {
      if (invalidation === undefined) return
      if ((await cache.delete(invalidation.keys)).length > 0) return
      const ids = confirmed.get(db)
      if (ids === undefined) confirmed.set(db, [invalidation.id])
      else ids.push(invalidation.id)
      if (!deleting.has(db)) deleting.set(db, deleteConfirmed(db))
    },
    async idle() {
      while (deleting.size > 0) await Promise.all(deleting.values())
    },
  }
}

/** Sweeps nodes again and again for one process. */
export interface Sweeper {
  /** Sweeps one node from where the last sweep ended; rows that could not be confirmed come again some seconds later. */
  sweep(db: QueryExecutorProvider): Promise<Swept>
}

export interface Swept {
  readonly found: number
  /** How many of them are deleted now. */
  readonly swept: number
}

/** A way through the rows of a node: from the oldest to the newest, and on with newer ones until it begins anew. */
interface Pass {
  after: bigint
  isRest: boolean
  againAtMs: number
}

/** Sweeps that, while a server is away, neither read its rows each second nor stop before those of the others. */
export function createSweeper(cache: Cache, clock: Pick<Clock, 'monotonicMs'>): Sweeper {
  const passes = new Map<QueryExecutorProvider, Pass>()
  return {
    async sweep(db) {
      const nowMs = clock.monotonicMs()
      let pass = passes.get(db)
      if (pass === undefined || nowMs >= pass.againAtMs) pass = { after: 0n, isRest: false, againAtMs: Infinity }
      passes.set(db, pass)
      const { found, swept, after, isEnd } = await sweepInvalidations(db, cache, pass.after)
      pass.after = after
      pass.isRest ||= swept < found
      // Rows may become visible in another order than that of their ids: without a rest every pass begins at the first.
      if (isEnd && !pass.isRest) passes.delete(db)
      else if (isEnd) pass.againAtMs = Math.min(pass.againAtMs, nowMs + SWEEP_AGAIN_MS)
      return { found, swept }
    },
  }
}

/**
 * Deletes what crashes and sick servers left: the keys of rows that are more than a second old, and then the rows
 * whose keys are all confirmed or have expired; the others keep the keys that are not. Several may sweep at once.
 * @param db one node
 * @param after the id of the last row that is not to be looked at
 * @returns what it did, the last row that it looked at, and whether there were no more
 */
export async function sweepInvalidations(
  db: QueryExecutorProvider,
  cache: Cache,
  after = 0n,
): Promise<Swept & { readonly after: bigint; readonly isEnd: boolean }> {
  let found = 0
  let swept = 0
  for (let batch = 0; batch < SWEEP_BATCHES_MAX && cache.isEnabled; batch++) {
    const { rows } = await sql<Invalidation & { is_expired: boolean }>`
      select id, keys, recorded_at < now() - ${EXPIRED_AGE_MS} * interval '1 millisecond' as is_expired
      from cache_invalidations
      where id > ${after} and recorded_at < now() - ${SWEEP_AGE_MS} * interval '1 millisecond'
      order by id limit ${BATCH_ROWS}`.execute(db)
    found += rows.length
    const live = rows.filter((row) => !row.is_expired)
    const unconfirmed = new Set(await cache.delete(live.flatMap(({ keys }) => keys)))
    const isDone = ({ keys, is_expired }: (typeof rows)[number]): boolean =>
      is_expired || !keys.some((key) => unconfirmed.has(key))
    const done = rows.filter(isDone)
    if (done.length > 0) await deleteRows(db, done.map(({ id }) => id))
    await keepOnly(db, rows.filter((row) => !isDone(row)), unconfirmed)
    swept += done.length
    after = rows.at(-1)?.id ?? after
    if (rows.length < BATCH_ROWS) return { found, swept, after, isEnd: true }
  }
  return { found, swept, after, isEnd: !cache.isEnabled }
}

/** Takes confirmed keys out of rows, so that what a healthy server has is not deleted again for a sick one's sake. */
async function keepOnly(db: QueryExecutorProvider, rows: readonly Invalidation[], unconfirmed: ReadonlySet<string>): Promise<void> {
  const shrunk = rows.filter(({ keys }) => keys.some((key) => !unconfirmed.has(key)))
  if (shrunk.length === 0) return
  await sql`update cache_invalidations
    set keys = array(select key from unnest(keys) as key where key = any (${[...unconfirmed]}::text[]))
    where id = any (${shrunk.map(({ id }) => id)}::bigint[])`.execute(db)
}

/**
 * The keys of every change whose deletes are not all confirmed, those under way included, in bounded batches; those
 * that have expired are left out.
 * @param dbs every node
 */
export async function* pendingKeys(dbs: readonly QueryExecutorProvider[]): AsyncGenerator<readonly string[]> {
  for (const db of dbs) {
    for (let after = 0n, isEnd = false; !isEnd; ) {
      const { rows } = await sql<Invalidation>`
        select id, keys from cache_invalidations
        where id > ${after} and recorded_at >= now() - ${EXPIRED_AGE_MS} * interval '1 millisecond'
        order by id limit ${BATCH_ROWS}`.execute(db)
      if (rows.length > 0) yield [...new Set(rows.flatMap(({ keys }) => keys))]
      after = rows.at(-1)?.id ?? after
      isEnd = rows.length < BATCH_ROWS
    }
  }
}

async function deleteRows(db: QueryExecutorProvider, ids: readonly bigint[]): Promise<void> {
  await sql`delete from cache_invalidations where id = any (${[...ids]}::bigint[])`.execute(db)
}
