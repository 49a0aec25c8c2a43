import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Db } from '#domain/database.ts'
import { storageFloor, type FeedEntry } from '#domain/feed/feed.rules.ts'
import { reviewPullMode, type PullContext } from '#domain/feed/pull-mode.ts'
import { dropFanoutCursor, fanOutPage, fanOutToShards, openFanoutCursor } from '#domain/feed/feed.writes.ts'
import { photoPublished } from '#domain/photos/photos.events.ts'
import { findPhoto } from '#domain/photos/photos.queries.ts'
import type { Handler } from '#platform/outbox/transport.ts'
import { eachNode } from './each-node.ts'
import { movedSince, placesNow } from './moved-shards.ts'

/** Followers served by one statement: large enough for speed, small enough to be written again after a crash. */
export const FAN_OUT_PAGE_ROWS = 5_000

/**
 * photo.published → an entry in the feed of every follower that is not dormant. Inside each node, from the node's own
 * follows, so no follower travels; in pages, each one transaction that also moves the saved cursor. A delivery that
 * comes again goes on where the last one was, and several at once share the pages.
 *
 * Who follows while this runs may be behind the cursor: the backfill of that follow begins after it, when the
 * photo is long published, and brings it. Who wakes while this runs has a floor above the photo: see `dormancy.ts`.
 *
 * A shard that changes nodes meanwhile may be on neither when its pages come by, so what the map says has moved is gone
 * over once more. Of what moved between two deliveries the rebuild of the moved feeds takes care (`feed.rebuild.ts`).
 *
 * A photo that readers pull is only noted as done. How many follow the author is looked at once for each photo.
 */
export function fanOutPhoto(
  context: PullContext,
  pageRows = FAN_OUT_PAGE_ROWS,
): Handler<typeof photoPublished.schema> {
  const { router, clock } = context
  return {
    event: photoPublished,
    async handle({ photoId: text }, job) {
      const photoId = BigInt(text) as Id
      const photo = await findPhoto(router, photoId)
      if (photo?.status !== 'published' || photo.published_id === null || photo.fanned_out_at !== null) return
      const { account_id: authorId, published_id: publishedId } = photo
      // Readers find what is older than any stored entry among the author's own photos.
      if (!photo.pull && publishedId >= storageFloor(clock.nowMs())) {
        const places = placesNow(router)
        const entry = { publishedId, photoId }
        await eachNode(router, (db) => fanOutOnNode(db, authorId, entry, pageRows, job.signal))
        const moved = await movedSince(router, places)
        if (moved.length > 0) await eachNode(router, (db) => fanOutToShards(db, authorId, entry, moved))
      }
      await Promise.all([markFannedOut(context, photoId), reviewPullMode(context, authorId)])
      await eachNode(router, (db) => dropFanoutCursor(db, photoId))
    },
  }
}

async function fanOutOnNode(
  db: Db,
  authorId: Id,
  entry: FeedEntry,
  pageRows: number,
  signal: AbortSignal,
): Promise<void> {
  await openFanoutCursor(db, entry.photoId)
  let followers: number
  do {
    signal.throwIfAborted()
    followers = await fanOutPage(db, authorId, entry, pageRows)
  } while (followers === pageRows)
}

async function markFannedOut({ router, clock }: PullContext, photoId: Id): Promise<void> {
  await router.write(shardOf(photoId), (trx) =>
    trx
      .updateTable('photos')
      .set({ fanned_out_at: new Date(clock.nowMs()) })
      .where('id', '=', photoId)
      .where('fanned_out_at', 'is', null)
      .execute(),
  )
}
