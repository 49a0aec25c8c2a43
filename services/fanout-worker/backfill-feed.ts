import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { laterId, storageFloor, type FeedEntry } from '#domain/feed/feed.rules.ts'
import { insertEntries, markBackfilled, type FollowKey } from '#domain/feed/feed.writes.ts'
import { keysOfFeedChange } from '#domain/follows/following.cache.ts'
import { followCreated } from '#domain/follows/follows.events.ts'
import { listPublishedOf } from '#domain/photos/photos.queries.ts'
import { writeThrough } from '#domain/write-through.ts'
import type { Handler, Job } from '#platform/outbox/transport.ts'

/** Photos brought into the feed by one transaction. */
export const BACKFILL_STEP_ROWS = 500

type BackfillContext = Pick<Context, 'router' | 'invalidations' | 'clock'>

/**
 * follow.created → the followee's photos above the follower's floor stand in its feed, and the follow says so.
 * Until then the reader takes that author's photos from the author.
 *
 * Why no photo is missed: we start after the follow is committed, and a photo's fan-out starts after its
 * publication is. Take any photo of the followee. If its publication was committed before our step read the
 * author's photos, we insert it. If not, its fan-out begins later still, reads follows in which this one stands,
 * and inserts it. Both may do so, hence ON CONFLICT DO NOTHING. The order of published_id plays no part in it.
 *
 * Why none is promised too early: backfilled_at is set on the follow that was there when we began, known by its
 * id. If it ended and another began meanwhile, that one has a message, and a backfill, of its own. And it is set only
 * while the account's floor is not below the one that we began with: if a rebuild has lowered it, we begin again.
 */
export function backfillFeed(
  context: BackfillContext,
  stepRows = BACKFILL_STEP_ROWS,
): Handler<typeof followCreated.schema> {
  const { router, clock } = context

  /** Brings the author's photos from the newest down to the floor; false when the follow is over. */
  async function fill(follow: FollowKey, floor: Id, job: Job): Promise<boolean> {
    let before: Id | null = null
    for (;;) {
      job.signal.throwIfAborted()
      const entries = await readStep(context, follow.followeeId, { before, floor, stepRows })
      const isStanding = await router.write(shardOf(follow.followerId), (trx) => insertEntries(trx, follow, entries))
      if (!isStanding || entries.length < stepRows) return isStanding
      before = entries.at(-1)?.publishedId ?? null
    }
  }

  function mark(follow: FollowKey, feedFloor: Id): Promise<boolean> {
    return writeThrough(context, shardOf(follow.followerId), (trx, stale) => {
      stale(keysOfFeedChange(follow.followerId))
      return markBackfilled(trx, follow, feedFloor)
    })
  }

  return {
    event: followCreated,
    async handle(body, job) {
      const pair = { followerId: BigInt(body.followerId) as Id, followeeId: BigInt(body.followeeId) as Id }
      for (;;) {
        const found = await findUnfilled(context, pair)
        if (found === undefined || !(await fill(found.follow, laterId(found.feedFloor, storageFloor(clock.nowMs())), job))) return
        if (await mark(found.follow, found.feedFloor)) return
      }
    },
  }
}

/** The follow as it stands, with the follower's floor; undefined when it is over or backfilled already. */
async function findUnfilled(
  { router }: BackfillContext,
  { followerId, followeeId }: Omit<FollowKey, 'id'>,
): Promise<{ follow: FollowKey; feedFloor: Id } | undefined> {
  const row = await router.read(shardOf(followerId), (db) =>
    db
      .selectFrom('follows as f')
      .innerJoin('accounts as a', 'a.id', 'f.follower_id')
      .select(['f.id', 'a.feed_floor'])
      .where('f.follower_id', '=', followerId)
      .where('f.followee_id', '=', followeeId)
      .where('f.backfilled_at', 'is', null)
      .executeTakeFirst(),
  )
  return row && { follow: { followerId, followeeId, id: row.id }, feedFloor: row.feed_floor }
}

/** The author's next photos, newest first, down to the floor; fewer than `stepRows` when there are no more. */
async function readStep(
  { router }: BackfillContext,
  authorId: Id,
  step: { readonly before: Id | null; readonly floor: Id; readonly stepRows: number },
): Promise<FeedEntry[]> {
  const photos = await listPublishedOf(router, authorId, { before: step.before, limit: step.stepRows })
  return photos.flatMap(({ id, published_id: publishedId }) =>
    publishedId !== null && publishedId >= step.floor ? [{ publishedId, photoId: id }] : [],
  )
}
