import { sql, type Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '../advisory-locks.ts'
import { straysAmong } from '../shard-state.ts'

/** A departure that is under way ends within this time, or its end is in doubt. */
const LOCK_TIMEOUT_MS = 2_000

/**
 * Runs `work` if a shard has not left its node, and keeps it there meanwhile. A mere look would not do: of a departure
 * whose COMMIT was sent and not answered (it may wait for a standby for hours) nothing is to be seen; but it holds the
 * door exclusively until it is.
 *
 * @returns false when the shard is not at home: nothing was done
 * @throws Error when the door is not to be had, so that nobody knows; whatever the node or `work` says
 */
export async function whileAtHome<DB>(source: Kysely<DB>, shard: Shard, work: () => Promise<void>): Promise<boolean> {
  return source.transaction().execute(async (trx) => {
    await sql`select set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true)`.execute(trx)
    await sql`select pg_advisory_xact_lock_shared(${ADVISORY_LOCKS.door}, ${shard})`.execute(trx)
    // A later statement than the lock's: it sees what was committed while we waited.
    if ((await straysAmong(trx, [shard])).length > 0) return false
    await work()
    return true
  })
}
