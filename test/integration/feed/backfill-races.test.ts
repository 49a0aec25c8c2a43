import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { delivery, followBody, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'
import { interleavings, steppedJob, type SteppedJob } from './stepped-job.ts'

function steppedBackfill(world: FeedWorld, readerId: Id, authorId: Id): SteppedJob {
  return steppedJob(world, (stepped) => backfillFeed(stepped).handle(followBody(readerId, authorId), delivery()))
}

t.test('a follow and its backfill against a publication and its fan-out, in every order', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const orders = interleavings(['follow', 'begin', 'insert', 'mark'], ['publish', 'fan out'])
  t.equal(orders.length, 15)
  for (const order of orders) {
    const [reader, author] = [await world.person({ node: 1 }), await world.person()]
    const old = [(await world.publish(author)).photoId, (await world.publish(author)).photoId].reverse()
    const job = steppedBackfill(world, reader, author)
    let fresh: Id | undefined
    const acts: Record<string, () => Promise<unknown>> = {
      'follow': () => world.follow(reader, author),
      'begin': () => job.begin(),
      'insert': () => job.step(),
      'mark': () => job.step(),
      'publish': async () => (fresh = (await world.publish(author)).photoId),
      'fan out': () => fanOutPhoto(world).handle(photoBody(fresh ?? author), delivery()),
    }
    let isFollowed = false
    const shown: string[] = []
    for (const act of order) {
      await acts[act]?.()
      isFollowed ||= act === 'follow'
      const feed = await world.scroll(reader)
      const all = fresh === undefined ? old : [fresh, ...old]
      const isLagging = fresh !== undefined && feed.length === old.length && !feed.includes(fresh)
      const expected = !isFollowed ? [] : isLagging ? old : all
      if (JSON.stringify(feed.map(String)) !== JSON.stringify(expected.map(String))) shown.push(act)
    }
    t.same(shown, [], `at every moment: ${order.join(', ')}`)
    t.same(await world.scroll(reader), [fresh, ...old])
    t.same(await world.stored(reader), [fresh, ...old], 'and all of it is stored, once')
    t.ok(await backfilledAt(world, reader, author))
  }
})

t.test('a backfill against an unfollow, a publication and a new follow, in every order', async (t) => {
  const world = await openFeedWorld(t)
  const orders = interleavings(['begin', 'insert', 'mark'], ['unfollow', 'publish', 'follow again', 'backfill again'])
  t.equal(orders.length, 35)
  for (const order of orders) {
    const [reader, author] = [await world.person(), await world.person()]
    const photos = [(await world.publish(author)).photoId]
    await world.follow(reader, author)
    const job = steppedBackfill(world, reader, author)
    const standing = { isFollowed: true }
    const acts: Record<string, () => Promise<unknown>> = {
      'begin': () => job.begin(),
      'insert': () => job.step(),
      'mark': () => job.step(),
      'unfollow': async () => {
        await world.unfollow(reader, author)
        standing.isFollowed = false
      },
      'publish': async () => {
        const { photoId } = await world.publish(author)
        await fanOutPhoto(world).handle(photoBody(photoId), delivery())
        photos.unshift(photoId)
      },
      'follow again': async () => {
        await world.follow(reader, author)
        standing.isFollowed = true
      },
      'backfill again': () => backfillFeed(world).handle(followBody(reader, author), delivery()),
    }
    const wrong: string[] = []
    for (const act of order) {
      await acts[act]?.()
      const feed = (await world.scroll(reader)).map(String)
      if (JSON.stringify(feed) !== JSON.stringify(standing.isFollowed ? photos.map(String) : [])) wrong.push(act)
    }
    t.same(wrong, [], `exact at every moment: ${order.join(', ')}`)
    t.ok(await backfilledAt(world, reader, author))
    t.same(await world.stored(reader), photos)
  }
})

t.test('a message that comes twice, at once and later, changes nothing more', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  const photos: Id[] = []
  for (let index = 0; index < 9; index++) photos.unshift((await world.publish(author)).photoId)
  await world.follow(reader, author)
  const handler = backfillFeed(world, 2)
  await Promise.all([1, 2, 3].map(() => handler.handle(followBody(reader, author), delivery())))
  t.same(await world.stored(reader), photos)
  const at = await backfilledAt(world, reader, author)
  await handler.handle(followBody(reader, author), delivery())
  t.same(await backfilledAt(world, reader, author), at)
  await world.unfollow(reader, author)
  await handler.handle(followBody(reader, author), delivery())
})

async function backfilledAt(world: FeedWorld, readerId: Id, authorId: Id): Promise<Date | null> {
  const row = await world.router
    .nodeOf(shardOf(readerId))
    .primary
    .selectFrom('follows')
    .select('backfilled_at')
    .where('follower_id', '=', readerId)
    .where('followee_id', '=', authorId)
    .executeTakeFirst()
  return row?.backfilled_at ?? null
}
