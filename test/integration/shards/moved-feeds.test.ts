import { sql } from 'kysely'
import t from 'tap'
import { MAX_ID, shardOf, type Id } from '#kernel/snowflake.ts'
import { retentionFloor } from '#domain/feed/feed.rules.ts'
import { readSkeleton } from '#domain/feed/feed.skeleton.ts'
import { readFollowing } from '#domain/follows/following.cache.ts'
import { moveShards } from '#domain/shards/move-shards.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { rebuildFeed } from '../../../services/fanout-worker/rebuild-feed.ts'
import { DAY_MS, delivery, followBody, NOW_MS, photoBody } from '../feed/feed-world.ts'
import { openMovingWorld, SECOND, type MovingWorld } from './moving-world.ts'

interface Feed {
  readonly reader: Id
  readonly authors: readonly Id[]
  /** The photos that it has, newest first. */
  readonly photos: Id[]
}

/** A reader on the first node whose feed is stored, with authors on both and a follow that is not backfilled yet. */
async function makeFeed(world: MovingWorld): Promise<Feed> {
  const reader = await world.person()
  const authors = [await world.person(), await world.person({ node: 1 }), await world.person()]
  const photos: Id[] = []
  for (const [index, days] of [200, 92, 60, 31, 12, 5, 5, 1].entries()) {
    photos.unshift((await world.publish(authors[index % 3] ?? reader, NOW_MS - days * DAY_MS + index)).photoId)
  }
  for (const [index, author] of authors.entries()) {
    await world.follow(reader, author)
    if (index < 2) await backfillFeed(world).handle(followBody(reader, author), delivery())
  }
  return { reader, authors, photos }
}

/** Works off what the outboxes of both nodes ask to be rebuilt. */
async function rebuildAll(world: MovingWorld): Promise<string[]> {
  const asked: string[] = []
  for (const db of world.dbs) {
    const { rows } = await sql<{ account: string }>`
      delete from outbox where event = 'feed.rebuild' returning body ->> 'accountId' as account`.execute(db)
    asked.push(...rows.map(({ account }) => account))
  }
  for (const accountId of asked) await rebuildFeed(world, 3).handle({ accountId }, delivery())
  return asked
}

t.test('a feed is whole at every step of its move, and stored again after it', async (t) => {
  const world = await openMovingWorld(t)
  const { reader, authors, photos } = await makeFeed(world)
  t.same(await world.scroll(reader, 3), photos)
  await moveShards(world.movers, { shards: [shardOf(reader)], to: SECOND }, {
    async step(step) {
      t.same(await world.scroll(reader, 3), photos, step)
    },
  })
  t.same(await world.stored(reader), [])
  t.same(await world.scroll(reader, 3), photos, 'from the authors')
  t.same(await rebuildAll(world), [reader.toString()])
  t.same(await world.stored(reader), photos.slice(0, -2), 'all but what is older than what is kept')
  t.same(await world.scroll(reader, 3), photos)
  const late = await world.publish(authors[1] ?? reader)
  await fanOutPhoto(world).handle(photoBody(late.photoId), delivery())
  t.same(await world.scroll(reader, 3), [late.photoId, ...photos])
})

t.test('who has begun to read a feed before its move finds it whole after it', async (t) => {
  const world = await openMovingWorld(t)
  const { reader, photos } = await makeFeed(world)
  const following = await readFollowing(world, reader)
  if (following === undefined) throw new Error('no account')
  await moveShards(world.movers, { shards: [shardOf(reader)], to: SECOND })
  const read = async (): Promise<Id[]> => {
    const stretch = { before: MAX_ID, rows: 50, retention: retentionFloor(NOW_MS) }
    return (await readSkeleton(world, reader, following, stretch)).places.map(({ photoId }) => photoId)
  }
  t.same(await read(), photos, 'with a floor that is not true any more')
  await rebuildAll(world)
  t.same(await read(), photos)
})

t.test('a fan-out that passed the shard by on its way is made up for', async (t) => {
  const world = await openMovingWorld(t)
  const { reader, authors, photos } = await makeFeed(world)
  const [author = reader] = authors
  let photoId: Id | undefined
  await moveShards(world.movers, { shards: [shardOf(reader)], to: SECOND }, {
    async step(step) {
      // Departed and not arrived: on no node for a fan-out.
      if (step !== 'departed') return
      photoId = (await world.publish(author)).photoId
      await fanOutPhoto(world).handle(photoBody(photoId), delivery())
    },
  })
  const all = [photoId, ...photos]
  t.same(await world.scroll(reader, 3), all)
  await rebuildAll(world)
  t.same(await world.scroll(reader, 3), all)
  t.same((await world.stored(reader))[0], photoId)
})

t.test('a backfill and a rebuild that were under way end right', async (t) => {
  const world = await openMovingWorld(t)
  const { reader, authors, photos } = await makeFeed(world)
  const [, , author = reader] = authors
  await moveShards(world.movers, { shards: [shardOf(reader)], to: SECOND }, {
    async step(step) {
      if (step === 'copied') await backfillFeed(world, 1).handle(followBody(reader, author), delivery())
    },
  })
  t.same(await world.scroll(reader, 3), photos)
  await rebuildAll(world)
  await moveShards(world.movers, { shards: [shardOf(reader)], to: 'DATABASE_URL' })
  t.same(await world.scroll(reader, 3), photos, 'nothing that lay there from before is shown twice')
  await rebuildAll(world)
  t.same(await world.scroll(reader, 3), photos)
  t.same(await world.stored(reader), photos.slice(0, -2))
})
