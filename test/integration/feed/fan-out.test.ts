import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { fanOutPage, openFanoutCursor } from '#domain/feed/feed.writes.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { DAY_MS, delivery, NOW_MS, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'

const PAGE_ROWS = 3

async function withFollowers(world: FeedWorld, count: number, nodes = 1): Promise<{ author: Id; followers: Id[] }> {
  const author = await world.person()
  const followers: Id[] = []
  for (let index = 0; index < count; index++) {
    const follower = await world.person({ node: index % nodes })
    await world.follow(follower, author)
    followers.push(follower)
  }
  return { author, followers }
}

async function fannedOutAt(world: FeedWorld, photoId: Id): Promise<Date | null> {
  const photo = await world.router
    .nodeOf(shardOf(photoId))
    .primary
    .selectFrom('photos')
    .select('fanned_out_at')
    .where('id', '=', photoId)
    .executeTakeFirstOrThrow()
  return photo.fanned_out_at
}

async function cursorCount(world: FeedWorld): Promise<number> {
  const rows = await Promise.all(world.dbs.map((db) => db.selectFrom('fanout_cursors').selectAll().execute()))
  return rows.flat().length
}

t.test('a photo reaches every follower once, by pages, and nobody else', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 10)
  const stranger = await world.person()
  const { photoId } = await world.publish(author)

  await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery())

  for (const follower of followers) t.same(await world.stored(follower), [photoId])
  t.same(await world.stored(stranger), [])
  t.same(await world.stored(author), [])
  t.not(await fannedOutAt(world, photoId), null)
  t.equal(await cursorCount(world), 0, 'no cursor is left')
})

t.test('a number of followers that fills the last page exactly', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, PAGE_ROWS * 2)
  const { photoId } = await world.publish(author)
  await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery())
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
})

t.test('a crash between pages: the next delivery goes on at the saved cursor', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 8)
  const { photoId, publishedId } = await world.publish(author)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  await openFanoutCursor(db, photoId)
  t.equal(await fanOutPage(db, author, { publishedId, photoId }, PAGE_ROWS), PAGE_ROWS)
  t.equal(await fannedOutAt(world, photoId), null)

  // An entry that the first page wrote is removed by hand: if it stays away, the page was not written again.
  const [first] = followers
  await db.deleteFrom('feed_entries').where('account_id', '=', first ?? author).execute()
  await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery())

  t.same(await world.stored(first ?? author), [])
  for (const follower of followers.slice(1)) t.same(await world.stored(follower), [photoId])
  t.not(await fannedOutAt(world, photoId), null)
})

t.test('an abort ends it between pages, and what is written stays', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 4)
  const { photoId } = await world.publish(author)
  const abort = new AbortController()
  abort.abort(new Error('deadline'))
  await t.rejects(fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery(abort.signal)), /deadline/)
  t.equal(await fannedOutAt(world, photoId), null)
  await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery())
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
})

t.test('delivered three times at once, and again after, it is in each feed once', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 20)
  const { photoId } = await world.publish(author)
  const handler = fanOutPhoto(world, PAGE_ROWS)
  await Promise.all([1, 2, 3].map(() => handler.handle(photoBody(photoId), delivery())))
  await handler.handle(photoBody(photoId), delivery())
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
  t.equal(await cursorCount(world), 0)
})

t.test('a page that meets an entry which is there already is written again with care', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 7)
  const { photoId, publishedId } = await world.publish(author)
  const [, second, , , , sixth] = followers
  for (const account_id of [second, sixth]) {
    if (account_id === undefined) throw new Error('too few followers')
    await world.router.write(shardOf(account_id), (trx) =>
      trx.insertInto('feed_entries').values({ account_id, published_id: publishedId, photo_id: photoId }).execute(),
    )
  }
  await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery())
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
})

t.test('two nodes: each serves the followers that live there', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const { author, followers } = await withFollowers(world, 9, 2)
  const { photoId } = await world.publish(author)
  const handler = fanOutPhoto(world, 2)
  await Promise.all([handler.handle(photoBody(photoId), delivery()), handler.handle(photoBody(photoId), delivery())])
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
  const perNode = await Promise.all(
    world.dbs.map((db) => db.selectFrom('feed_entries').select('account_id').execute()),
  )
  t.same(perNode.map((rows) => rows.length), [5, 4])
  t.not(await fannedOutAt(world, photoId), null)
  t.equal(await cursorCount(world), 0)
})

t.test('a follower whose shard changes nodes between its pages is reached on the node it went to', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const { author, followers } = await withFollowers(world, 6, 2)
  const [moved] = followers
  const [source, target] = world.dbs
  if (moved === undefined || source === undefined || target === undefined) throw new Error('too few')
  const { photoId } = await world.publish(author)
  // The pages of both nodes are written. Then, before the photo counts as done, the shard moves with its follow.
  const router = Object.create(world.router, {
    refresh: {
      value: async () => {
        await sql`delete from feed_entries where account_id = ${moved}`.execute(source)
        await sql`insert into follows (follower_id, followee_id, id) values (${moved}, ${author}, ${moved})`.execute(target)
        await sql`update shard_map set node = ${world.router.nodes[1]?.name} where shard = ${shardOf(moved)}`.execute(source)
        await sql`update shard_map_version set version = version + 1`.execute(source)
        await world.router.refresh()
      },
    },
  }) as FeedWorld['router']
  await fanOutPhoto({ ...world, router }, 2).handle(photoBody(photoId), delivery())
  const rows = await target.selectFrom('feed_entries').select('photo_id').where('account_id', '=', moved).execute()
  t.same(rows, [{ photo_id: photoId }])
  for (const follower of followers) t.same(await world.stored(follower), [photoId])
})

t.test('a shard that is on the move is left out', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 3)
  const [first, moved, last] = followers
  if (first === undefined || moved === undefined || last === undefined) throw new Error('too few followers')
  await sql`insert into shard_state (shard, state, peer, move_id) values (${shardOf(moved)}, 'departed', '', gen_random_uuid())`.execute(world.router.directory.primary)
  const { photoId } = await world.publish(author)
  await fanOutPhoto(world).handle(photoBody(photoId), delivery())
  t.same(await world.stored(first), [photoId])
  t.same(await world.stored(moved), [])
  t.same(await world.stored(last), [photoId])
})

t.test('a photo that is gone, deleted or fanned out already is skipped', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 2)
  const handler = fanOutPhoto(world)
  await handler.handle(photoBody(world.mint(shardOf(author))), delivery())
  const { photoId } = await world.publish(author)
  await world.remove(author, photoId)
  await handler.handle(photoBody(photoId), delivery())
  for (const follower of followers) t.same(await world.stored(follower), [])
  t.equal(await cursorCount(world), 0)
})

t.test('a photo published longer ago than feeds are stored writes nothing and is done', async (t) => {
  const world = await openFeedWorld(t)
  const { author, followers } = await withFollowers(world, 2)
  const { photoId } = await world.publish(author, NOW_MS - 200 * DAY_MS)
  await fanOutPhoto(world).handle(photoBody(photoId), delivery())
  t.not(await fannedOutAt(world, photoId), null)
  for (const follower of followers) {
    t.same(await world.stored(follower), [])
    t.same(await world.scroll(follower), [photoId], 'the author still has it')
  }
})
