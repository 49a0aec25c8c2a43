import { sql } from 'kysely'
import type { Db, Trx } from '#domain/database.ts'

/** The outbox has no index by body: with a long backlog the search is rather given up than a load of its own. */
const STATEMENT_TIMEOUT_MS = 10_000

/**
 * Runs `work` in a transaction of a node, unless another worker holds the lock there.
 *
 * @param lock one of `ADVISORY_LOCKS`
 * @returns what `work` gives; undefined when it did not run
 */
export async function asOneRunner<T>(db: Db, lock: number, work: (trx: Trx) => Promise<T>): Promise<T | undefined> {
  return db.transaction().execute(async (trx) => {
    await sql`select set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}ms`}, true)`.execute(trx)
    const { rows } = await sql<{ mine: boolean }>`select pg_try_advisory_xact_lock(${lock}) as mine`.execute(trx)
    return rows[0]?.mine === true ? work(trx) : undefined
  })
}
