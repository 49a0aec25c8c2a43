import { sql } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import type { Db, Trx } from '#domain/database.ts'
import { photoDeleted, photoPublished, photoUploaded } from '#domain/photos/photos.events.ts'
import type { Logger } from '#platform/logger/logger.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import { asOneRunner } from './one-runner.ts'

/** Longer than a photo takes even when its job is retried a few times; also the wait before the next try. */
export const STUCK_AFTER_MS = 10 * 60_000
const BATCH_ROWS = 200

/** What a photo in that status waits for; `published` means: and not yet fanned out. */
const AWAITED = { processing: photoUploaded, published: photoPublished, deleted: photoDeleted } as const

interface StuckPhoto {
  readonly id: Id
  readonly status: keyof typeof AWAITED
}

/**
 * Publishes again the events of a node's photos that have been unfinished for ten minutes though no message about
 * them is waiting, so that a message that was lost, with a broker for example, loses no photo. Photos with a dead
 * letter are left to whoever replays it. One runner at a time per node; the others do nothing.
 *
 * @returns how many photos it published for
 */
export async function reconcilePhotos(db: Db, log: Pick<Logger, 'warn'>): Promise<number> {
  const stuck = await asOneRunner(db, ADVISORY_LOCKS.reconcilePhotos, async (trx) => {
    const taken = await takeStuck(trx)
    await publishEvents(
      trx,
      taken.map(({ id, status }) => message(AWAITED[status], { photoId: id.toString() })),
    )
    return taken
  })
  if (stuck === undefined || stuck.length === 0) return 0
  const published: Record<string, number> = {}
  for (const { status } of stuck) published[AWAITED[status].name] = (published[AWAITED[status].name] ?? 0) + 1
  log.warn({ published }, 'messages of unfinished photos were published again')
  return stuck.length
}

/** Touches updated_at, so that each comes up again only after another ten minutes. */
async function takeStuck(trx: Trx): Promise<StuckPhoto[]> {
  const awaited = JSON.stringify(
    Object.fromEntries(Object.entries(AWAITED).map(([status, { name }]) => [status, name])),
  )
  const { rows } = await sql<StuckPhoto>`
    with stuck as materialized (
      select p.id from photos p
      where (p.status in ('processing', 'deleted') or (p.status = 'published' and p.fanned_out_at is null))
        and p.updated_at < now() - ${STUCK_AFTER_MS} * interval '1 millisecond'
        and ${atHome('p.id')}
        and not exists (select from outbox o
          where o.event = ${awaited}::jsonb ->> p.status and o.body ->> 'photoId' = p.id::text)
        and not exists (select from dead_letters d
          where d.event = ${awaited}::jsonb ->> p.status and d.body ->> 'photoId' = p.id::text)
      order by p.updated_at limit ${BATCH_ROWS} for update of p skip locked
    )
    update photos set updated_at = now() from stuck where photos.id = stuck.id
    returning photos.id, photos.status`.execute(trx)
  return rows
}
