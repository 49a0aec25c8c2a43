import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { readFeed } from '#domain/feed/feed.reader.ts'
import { retentionFloor } from '#domain/feed/feed.rules.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { DAY_MS, delivery, followBody, NOW_MS, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'

/** Publishes photos one after the other and brings them to the followers; newest first, as a feed has them. */
async function publishAndFanOut(world: FeedWorld, authorId: Id, count: number): Promise<Id[]> {
  const photos: Id[] = []
  for (let index = 0; index < count; index++) {
    const { photoId } = await world.publish(authorId)
    await fanOutPhoto(world).handle(photoBody(photoId), delivery())
    photos.unshift(photoId)
  }
  return photos
}

async function followBackfilled(world: FeedWorld, followerId: Id, followeeId: Id): Promise<void> {
  await world.follow(followerId, followeeId)
  await backfillFeed(world).handle(followBody(followerId, followeeId), delivery())
}

t.test('a follow shows at once, an unfollow hides at once, a second follow shows again', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  const photos = await publishAndFanOut(world, author, 5)
  t.same(await world.scroll(reader), [])
  await world.follow(reader, author)
  t.same(await world.stored(reader), [], 'not backfilled yet')
  t.same(await world.scroll(reader, 2), photos)
  await backfillFeed(world).handle(followBody(reader, author), delivery())
  t.same(await world.stored(reader), photos)
  t.same(await world.scroll(reader, 2), photos)
  await world.unfollow(reader, author)
  t.same(await world.scroll(reader, 2), [])
  const [missed] = await publishAndFanOut(world, author, 1)
  await world.follow(reader, author)
  t.same(await world.scroll(reader, 2), [missed, ...photos], 'also what was published in between')
})

t.test('nobody sees their own photos, and an account without follows or that does not exist has an empty feed', async (t) => {
  const world = await openFeedWorld(t)
  const author = await world.person()
  await publishAndFanOut(world, author, 1)
  t.same(await world.scroll(author), [])
  t.same(await readFeed(world, world.mint(7), { before: null, limit: 10 }), { photos: [], next: null })
})

t.test('newest publication first: a photo held back for days is new when it comes', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  await followBackfilled(world, reader, author)
  const heldId = world.mint(shardOf(author), NOW_MS - 3 * DAY_MS)
  const before = await publishAndFanOut(world, author, 2)
  const { photoId, publishedId } = await world.publish(author)
  await world.router.write(shardOf(author), (trx) =>
    trx.updateTable('photos').set({ id: heldId, published_id: publishedId }).where('id', '=', photoId).execute(),
  )
  await fanOutPhoto(world).handle(photoBody(heldId), delivery())
  t.same(await world.scroll(reader), [heldId, ...before])
})

t.test('pages are full unless the feed ends, and the last one says so', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  await followBackfilled(world, reader, author)
  const photos = await publishAndFanOut(world, author, 12)
  for (const limit of [1, 5, 6, 11, 12, 13, 100]) t.same(await world.scroll(reader, limit), photos, `pages of ${limit}`)
  const exact = await readFeed(world, reader, { before: null, limit: 12 })
  t.equal(exact.next, null, 'a page that holds the rest is the last')
})

t.test('a scroll is stable while photos are published', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  await followBackfilled(world, reader, author)
  const photos = await publishAndFanOut(world, author, 6)
  const first = await readFeed(world, reader, { before: null, limit: 3 })
  await publishAndFanOut(world, author, 2)
  const second = await readFeed(world, reader, { before: first.next, limit: 3 })
  t.same([...first.photos, ...second.photos].map(({ fragment }) => fragment.id), photos)
  t.equal(second.next, null)
})

t.test('photos that vanished are skipped and the page is refilled', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  await followBackfilled(world, reader, author)
  const photos = await publishAndFanOut(world, author, 40)
  const kept = photos.filter((_, index) => index < 2 || index > 33)
  for (const photo of photos) if (!kept.includes(photo)) await world.remove(author, photo)
  t.same(await world.scroll(reader, 4), kept)
  t.same(await world.scroll(reader, 7), kept)
})

t.test('behind hundreds of entries of an author who was unfollowed the others are found', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, quiet, busy] = [await world.person(), await world.person(), await world.person()]
  await followBackfilled(world, reader, quiet)
  const photos = await publishAndFanOut(world, quiet, 7)
  for (let index = 0; index < 200; index++) await world.publish(busy)
  await followBackfilled(world, reader, busy)
  t.equal((await world.stored(reader)).length, 207)
  await world.unfollow(reader, busy)
  t.same(await world.scroll(reader, 3), photos)
})

t.test('a photo taken back and published anew stands at its new place only', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  await followBackfilled(world, reader, author)
  const [newer, older] = await publishAndFanOut(world, author, 2)
  if (older === undefined) throw new Error('no photo')
  await world.router.write(shardOf(author), (trx) =>
    trx
      .updateTable('photos')
      .set({ published_id: world.mint(shardOf(author)), fanned_out_at: null })
      .where('id', '=', older)
      .execute(),
  )
  await fanOutPhoto(world).handle(photoBody(older), delivery())
  t.equal((await world.stored(reader)).length, 3)
  t.same(await world.scroll(reader), [older, newer])
})

for (const nodes of [1, 2] as const) {
  t.test(`to the very end, past floor, retention and the oldest partition, on ${nodes} node(s)`, async (t) => {
    const world = await openFeedWorld(t, { nodes })
    const floor = retentionFloor(NOW_MS - 40 * DAY_MS + 90 * DAY_MS)
    const reader = await world.person({ node: nodes - 1, floor })
    const authors = [await world.person(), await world.person({ node: nodes - 1 }), await world.person()]
    const daysAgo = [300, 200, 110, 95, 91, 90, 89, 60, 41, 40, 39, 10, 1, 0]
    const photos: Id[] = []
    for (const [index, days] of daysAgo.entries()) {
      const author = authors[index % 3]
      if (author === undefined) throw new Error('no author')
      photos.unshift((await world.publish(author, NOW_MS - days * DAY_MS + index)).photoId)
    }
    for (const author of authors) await world.follow(reader, author)
    t.same(await world.scroll(reader, 3), photos, 'before any backfill')
    for (const [index, author] of authors.entries()) {
      await backfillFeed(world, 2).handle(followBody(reader, author), delivery())
      t.same(await world.scroll(reader, 3), photos, `after ${index + 1} backfills`)
    }
    t.same(await world.stored(reader), photos.slice(0, 5), 'stored from the floor up only')
    world.clock.advance(60 * DAY_MS)
    t.same(await world.scroll(reader, 3), photos, 'as retention passes the floor')
    for (const limit of [1, 2, 5, 14, 50]) t.same(await world.scroll(reader, limit), photos, `pages of ${limit}`)
  })
}
