import { sql } from 'kysely'
import { firstIdAt, type Id } from '#kernel/snowflake.ts'
import type { Db, Trx } from '#domain/database.ts'
import { followCreated } from '#domain/follows/follows.events.ts'
import type { Logger } from '#platform/logger/logger.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import { asOneRunner } from './one-runner.ts'

/** Longer than a backfill takes even when its job is retried a few times; also the time between two runs. */
export const UNFILLED_AFTER_MS = 10 * 60_000
const BATCH_ROWS = 200

interface Follow {
  readonly followerId: Id
  readonly followeeId: Id
}

/**
 * Publishes follow.created again for a node's follows that have not been backfilled for ten minutes though no message
 * about them is waiting. Until it is backfilled a follow costs each read of the feed a look at the author's photos. Those
 * with a dead letter are left to whoever replays it. One runner at a time per node; the others do nothing.
 *
 * @returns how many follows it published for
 */
export async function reconcileFollows(db: Db, nowMs: number, log: Pick<Logger, 'warn'>): Promise<number> {
  const unfilled = await asOneRunner(db, ADVISORY_LOCKS.reconcileFollows, async (trx) => {
    const found = await findUnfilled(trx, firstIdAt(nowMs - UNFILLED_AFTER_MS))
    await publishEvents(
      trx,
      found.map(({ followerId, followeeId }) =>
        message(followCreated, { followerId: followerId.toString(), followeeId: followeeId.toString() }),
      ),
    )
    return found.length
  })
  if (unfilled !== undefined && unfilled > 0) {
    log.warn({ published: { [followCreated.name]: unfilled } }, 'messages of unfinished follows were published again')
  }
  return unfilled ?? 0
}

/** The follows begun before the moment of `before`; only those whose follower has an account, as a backfill needs it. */
async function findUnfilled(trx: Trx, before: Id): Promise<Follow[]> {
  const { rows } = await sql<Follow>`
    select f.follower_id as "followerId", f.followee_id as "followeeId"
    from follows f join accounts a on a.id = f.follower_id
    where f.backfilled_at is null and f.id < ${before} and ${atHome('f.follower_id')}
      and not exists (select from outbox o where o.event = ${followCreated.name}
        and o.body ->> 'followerId' = f.follower_id::text and o.body ->> 'followeeId' = f.followee_id::text)
      and not exists (select from dead_letters d where d.event = ${followCreated.name}
        and d.body ->> 'followerId' = f.follower_id::text and d.body ->> 'followeeId' = f.followee_id::text)
    limit ${BATCH_ROWS}`.execute(trx)
  return rows
}
