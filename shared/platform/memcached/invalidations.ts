import { sql, type QueryExecutorProvider } from 'kysely'
import type { Logger } from '../logger/logger.ts'
import type { Cache } from './cache.ts'

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
const SWEEP_BATCH_ROWS = 500
/** Batches of one sweep: what is beyond waits for the next. */
const SWEEP_BATCHES_MAX = 100
/** On one node; what a process deletes again by itself before it reads a cache node that had failed. */
const PENDING_ROWS_MAX = 5_000

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
        insert into cache_invalidations (keys) values (${[...keys]}::text[]) returning id`.execute(trx)
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

/**
 * Deletes what crashes and sick servers left: the keys of every row that is more than a second old, and then the rows
 * whose keys are all confirmed. Several may sweep at once.
 * @param db one node
 * @returns how many rows it found, and how many of them it could delete
 */
export async function sweepInvalidations(
  db: QueryExecutorProvider,
  cache: Cache,
): Promise<{ readonly found: number; readonly swept: number }> {
  let found = 0
  let swept = 0
  let after = 0n
  for (let batch = 0; batch < SWEEP_BATCHES_MAX && cache.isEnabled; batch++) {
    const { rows } = await sql<Invalidation>`
      select id, keys from cache_invalidations
      where id > ${after} and recorded_at < now() - ${SWEEP_AGE_MS} * interval '1 millisecond'
      order by id limit ${SWEEP_BATCH_ROWS}`.execute(db)
    found += rows.length
    const unconfirmed = new Set(await cache.delete(rows.flatMap(({ keys }) => keys)))
    const done = rows.filter(({ keys }) => keys.every((key) => !unconfirmed.has(key)))
    if (done.length > 0) await deleteRows(db, done.map(({ id }) => id))
    swept += done.length
    after = rows.at(-1)?.id ?? after
    if (rows.length < SWEEP_BATCH_ROWS) break
  }
  return { found, swept }
}

/**
 * The keys of every change whose deletes are not all confirmed, those under way included.
 * @param dbs every node
 * @throws Error when there are too many to redo: they have to be swept first
 */
export async function pendingKeys(dbs: readonly QueryExecutorProvider[]): Promise<string[]> {
  const found = await Promise.all(
    dbs.map((db) => sql<{ keys: string[] }>`select keys from cache_invalidations limit ${PENDING_ROWS_MAX + 1}`.execute(db)),
  )
  if (found.some(({ rows }) => rows.length > PENDING_ROWS_MAX)) throw new Error('too many cache invalidations are pending')
  return [...new Set(found.flatMap(({ rows }) => rows.flatMap(({ keys }) => keys)))]
}

async function deleteRows(db: QueryExecutorProvider, ids: readonly bigint[]): Promise<void> {
  await sql`delete from cache_invalidations where id = any (${[...ids]}::bigint[])`.execute(db)
}
