import { sql } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import type { Db, Trx } from '#domain/database.ts'
import { feedRebuild } from '#domain/feed/feed.events.ts'
import { requestRebuild } from '#domain/feed/feed.rebuild.ts'
import type { Logger } from '#platform/logger/logger.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import { asOneRunner } from './one-runner.ts'

/** Longer than a rebuild takes even when its job is retried a few times; also the time between two runs. */
export const UNBUILT_AFTER_MS = 10 * 60_000
const BATCH_ROWS = 200

/**
 * Asks again for the rebuild of a node's feeds that have been to be rebuilt for ten minutes though no message about them
 * is waiting. Until it is rebuilt, all of a feed is read from its authors. Those with a dead letter are left to whoever
 * replays it. One runner at a time per node; the others do nothing.
 *
 * @returns how many feeds it asked for
 */
export async function reconcileFeeds(db: Db, log: Pick<Logger, 'warn'>): Promise<number> {
  const unbuilt = await asOneRunner(db, ADVISORY_LOCKS.reconcileFeeds, async (trx) => {
    const found = await findUnbuilt(trx)
    await requestRebuild(trx, found)
    return found.length
  })
  if (unbuilt !== undefined && unbuilt > 0) {
    log.warn({ published: { [feedRebuild.name]: unbuilt } }, 'messages of unfinished feeds were published again')
  }
  return unbuilt ?? 0
}

async function findUnbuilt(trx: Trx): Promise<Id[]> {
  const { rows } = await sql<{ id: Id }>`
    select a.id from accounts a
    where a.rebuild_asked_at < now() - ${UNBUILT_AFTER_MS} * interval '1 millisecond' and not a.dormant and ${atHome('a.id')}
      and not exists (select from outbox o
        where o.event = ${feedRebuild.name} and o.body ->> 'accountId' = a.id::text)
      and not exists (select from dead_letters d
        where d.event = ${feedRebuild.name} and d.body ->> 'accountId' = a.id::text)
    order by a.rebuild_asked_at limit ${BATCH_ROWS}`.execute(trx)
  return rows.map(({ id }) => id)
}
