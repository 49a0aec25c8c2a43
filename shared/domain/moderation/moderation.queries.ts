import type { Selectable } from 'kysely'
import { problem, type ProblemError } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import type { Context } from '../context.ts'
import type { AppRouter, Trx } from '../database.ts'
import { recordDecision } from '../photos/photos.gate.ts'
import { keysOfPublication } from '../photos/photos.keys.ts'
import { photoNotFound } from '../photos/photos.queries.ts'
import type { PhotosTable } from '../photos/photos.table.ts'
import { writeThrough } from '../write-through.ts'
import { CLAIM_MS, type Decision } from './moderation.rules.ts'

/** A photo with what moderators did with it. */
export type ModeratedPhoto = Selectable<PhotosTable>

/** Photos held for review, oldest first, made after `after` (null: from the oldest); one statement per node. */
export async function listHeld(
  router: AppRouter,
  { after, limit }: { readonly after: Id | null; readonly limit: number },
): Promise<ModeratedPhoto[]> {
  const parts = await router.readNodes((db) => {
    // A photo lies on the shard of its owner, so both rows are here.
    let query = db
      .selectFrom('photos as p')
      .innerJoin('accounts as a', 'a.id', 'p.account_id')
      .selectAll('p')
      .where('p.status', '=', 'review')
      .where('a.status', '=', 'active')
      .where(atHome('p.id'))
    if (after !== null) query = query.where('p.id', '>', after)
    return query.orderBy('p.id').limit(limit).execute()
  })
  return parts.flat().sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit)
}

/**
 * Gives a held photo to a moderator for a while; once more, and it begins anew.
 *
 * @throws ProblemError not_found, photo_not_held, photo_claimed while another moderator has it
 */
export async function claimPhoto(router: AppRouter, photoId: Id, moderatorId: Id): Promise<ModeratedPhoto> {
  return router.write(shardOf(photoId), async (trx) => {
    const photo = await lockPhoto(trx, photoId)
    refuseUnlessHeld(photo, moderatorId)
    return trx
      .updateTable('photos')
      .set({ claimed_by: moderatorId, claimed_until: new Date(Date.now() + CLAIM_MS) })
      .where('id', '=', photoId)
      .returningAll()
      .executeTakeFirstOrThrow()
  })
}

/**
 * Releases a held photo, which is then published as of now, or rejects it. Said again by the same moderator it changes
 * nothing.
 *
 * @throws ProblemError not_found, photo_not_held, photo_claimed while another moderator has it
 */
export async function decidePhoto(
  context: Pick<Context, 'router' | 'invalidations' | 'ids'>,
  photoId: Id,
  decision: { readonly moderatorId: Id; readonly verdict: Decision; readonly note: string },
): Promise<ModeratedPhoto> {
  const { moderatorId, verdict } = decision
  const shard = shardOf(photoId)
  const publishedId = await context.ids.mint(shard)
  return writeThrough(context, shard, async (trx, stale) => {
    const photo = await lockPhoto(trx, photoId)
    // Also when it was said before: that try may have died before it told the cache.
    stale(keysOfPublication(photoId, photo.account_id))
    if (photo.decided_by === moderatorId && photo.verdict === verdict) return photo
    refuseUnlessHeld(photo, moderatorId)
    await recordDecision(trx, photoId, decision, publishedId)
    return lockPhoto(trx, photoId)
  })
}

/** @throws ProblemError not_found */
async function lockPhoto(trx: Trx, photoId: Id): Promise<ModeratedPhoto> {
  const photo = await trx
    .selectFrom('photos')
    .selectAll()
    .where('id', '=', photoId)
    .where('status', '<>', 'deleted')
    .forUpdate()
    .executeTakeFirst()
  if (photo === undefined) throw photoNotFound()
  return photo
}

function refuseUnlessHeld(photo: ModeratedPhoto, moderatorId: Id): void {
  if (photo.status !== 'review') throw notHeld()
  const claim = claimOf(photo)
  if (claim !== null && claim.moderatorId !== moderatorId) {
    throw problem('photo_claimed', 'Another moderator is looking at this photo.', {
      retryAfterSeconds: Math.ceil((claim.until.getTime() - Date.now()) / 1_000),
    })
  }
}

function notHeld(): ProblemError {
  return problem('photo_not_held', 'The photo is not held for review.')
}

/** Who has the photo now, and until when; null for nobody. */
export function claimOf(photo: ModeratedPhoto): { readonly moderatorId: Id; readonly until: Date } | null {
  const { claimed_by: moderatorId, claimed_until: until } = photo
  if (photo.status !== 'review' || moderatorId === null || until === null || until.getTime() <= Date.now()) return null
  return { moderatorId, until }
}
