import { sql } from 'kysely'
import t from 'tap'
import { MAX_ID, shardOf, type Id } from '#kernel/snowflake.ts'
import { putToRest } from '#domain/feed/dormancy.ts'
import { raiseFloor, requestRebuild } from '#domain/feed/feed.rebuild.ts'
import { copiedFloor, raisedFloor, retentionFloor } from '#domain/feed/feed.rules.ts'
import { readSkeleton } from '#domain/feed/feed.skeleton.ts'
import { readFollowing } from '#domain/follows/following.cache.ts'
import { estimateMoves } from '#domain/shards/estimate-moves.ts'
import { moveShards } from '#domain/shards/move-shards.ts'
import { askRebuilds } from '../../../services/fanout-worker/ask-rebuilds.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { rebuildFeed } from '../../../services/fanout-worker/rebuild-feed.ts'
import { DAY_MS, delivery, followBody, NOW_MS, photoBody } from '../feed/feed-world.ts'
import { steppedJob } from '../feed/stepped-job.ts'
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

interface Range {
  readonly first: string
  readonly last: string
}

/** Works off what the outboxes of both nodes ask to be rebuilt, what has arrived first, and gives whose feeds that was. */
async function rebuildAll(world: MovingWorld): Promise<string[]> {
  for (const range of await takeMessages<Range>(world, 'feeds.arrived')) await askRebuilds(world).handle(range, delivery())
  const asked = await takeMessages<{ accountId: string }>(world, 'feed.rebuild')
  for (const body of asked) await rebuildFeed(world, 3).handle(body, delivery())
  return asked.map(({ accountId }) => accountId)
}

async function takeMessages<Body>(world: MovingWorld, event: string): Promise<Body[]> {
  const bodies: Body[] = []
  for (const db of world.dbs) {
    const { rows } = await sql<{ body: Body }>`delete from outbox where event = ${event} returning body`.execute(db)
    bodies.push(...rows.map(({ body }) => body))
  }
  return bodies
}

interface Standing {
  readonly feed_floor: Id
  readonly feed_raises: number
  readonly isAsked: boolean
}

async function standingOf(db: MovingWorld['target'], accountId: Id): Promise<Standing | undefined> {
  const { rows } = await sql<Standing>`select feed_floor, feed_raises, rebuild_asked_at is not null as "isAsked"
    from accounts where id = ${accountId}`.execute(db)
  return rows[0]
}

t.test('a feed is whole at every step of its move, and stored again after it', async (t) => {
  const world = await openMovingWorld(t)
  const { reader, authors, photos } = await makeFeed(world)
  t.same(await world.scroll(reader, 3), photos)
  const following = await readFollowing(world, reader)
  if (following === undefined) throw new Error('no account')
  const readOn = async (): Promise<Id[]> => {
    const stretch = { before: MAX_ID, rows: 50, retention: retentionFloor(NOW_MS) }
    return (await readSkeleton(world, reader, following, stretch)).places.map(({ photoId }) => photoId)
  }
  await moveShards(world.movers, { shards: [shardOf(reader)], to: SECOND }, {
    async step(step) {
      t.same(await world.scroll(reader, 3), photos, step)
    },
  })
  t.same(await world.stored(reader), [])
  t.same(await world.scroll(reader, 3), photos, 'from the authors')
  t.same(await readOn(), photos, 'for who had begun to read before, with a floor that is not true any more')
  t.same(await rebuildAll(world), [reader.toString()])
  t.same(await readOn(), photos)
  t.same(await world.stored(reader), photos.slice(0, -2), 'all but what is older than what is kept')
  t.same(await world.scroll(reader, 3), photos)
  const late = await world.publish(authors[1] ?? reader)
  await fanOutPhoto(world).handle(photoBody(late.photoId), delivery())
  t.same(await world.scroll(reader, 3), [late.photoId, ...photos])
})

for (const how of ['at once', 'days after its copy', 'as copied by a version that raised nothing'] as const) {
  t.test(`a fan-out that passed a feed by on its way is made up for when it arrives ${how}`, async (t) => {
    const world = await openMovingWorld(t)
    const { reader, authors, photos } = await makeFeed(world)
    const [author = reader] = authors
    let photoId: Id | undefined
    await moveShards(world.movers, { shards: [shardOf(reader)], to: SECOND }, {
      async step(step) {
        // Departed and not arrived: on no node for a fan-out.
        if (step !== 'departed') return
        if (how === 'days after its copy') world.clock.advance(2 * DAY_MS)
        if (how === 'as copied by a version that raised nothing') {
          await sql`update accounts set feed_floor = 0, feed_raises = 0, rebuild_asked_at = null where id = ${reader}`.execute(world.target)
        }
        photoId = (await world.publish(author)).photoId
        await fanOutPhoto(world).handle(photoBody(photoId), delivery())
      },
    })
    const standing = await standingOf(world.target, reader)
    t.ok(standing?.isAsked === true && standing.feed_floor >= raisedFloor(world.clock.nowMs() - 1_000), 'its floor is ahead')
    const all = [photoId, ...photos]
    t.same(await world.scroll(reader, 3), all)
    await rebuildAll(world)
    t.same(await world.scroll(reader, 3), all)
    t.same((await world.stored(reader))[0], photoId)
  })
}

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

t.test('all feeds of a shard arrive under a raised floor, and those of who is here are rebuilt', async (t) => {
  const world = await openMovingWorld(t)
  const { source, target, router } = world
  const shard = shardOf(await world.person())
  const add = async (status: 'active' | 'void' | 'deleted' = 'active', floor = 0n as Id): Promise<Id> => {
    const id = world.mint(shard)
    await router.write(shard, (trx) =>
      trx.insertInto('accounts').values({ id, status, username: `of${id}`, display_name: 'x', email: null, feed_floor: floor }).execute())
    return id
  }
  const [alone, deleted, never, resting, returning] = [await add(), await add('deleted'), await add('void'), await add(), await add()]
  const ahead = await add('active', raisedFloor(world.clock.nowMs()))
  await router.write(shard, async (trx) => {
    await trx.updateTable('accounts').set({ last_seen_at: new Date(0) }).where('id', '=', resting).execute()
    t.ok(await putToRest(trx, resting, new Date(1)))
    await raiseFloor(trx, [returning], raisedFloor(world.clock.nowMs()))
    await requestRebuild(trx, [returning])
  })
  const floor = copiedFloor(world.clock.nowMs())
  await moveShards(world.movers, { shards: [shard], to: SECOND })
  const raised = { feed_floor: floor, feed_raises: 1, isAsked: true }
  t.same(await standingOf(target, alone), raised, 'once: nothing was left to be raised when it arrived')
  t.same(await standingOf(target, ahead), raised)
  t.same(await standingOf(target, resting), raised)
  t.same(await standingOf(target, returning), { ...raised, feed_raises: 2 })
  for (const id of [deleted, never]) t.same(await standingOf(target, id), { feed_floor: 0n, feed_raises: 0, isAsked: false })
  t.same(await standingOf(source, alone), { feed_floor: 0n, feed_raises: 0, isAsked: false }, 'the source keeps its own')

  const asked = await rebuildAll(world)
  t.same(asked.filter((id) => id === resting.toString()), [], 'not of who is not here')
  t.same(asked.filter((id) => id === returning.toString()).length, 2, 'by the return, which was not done, and by the arrival')
  const rest = await sql`select from accounts where rebuild_asked_at is not null and id <> ${resting} and ((id >> 10) & 8191) = ${shard}`.execute(target)
  t.equal(rest.rows.length, 0, 'without follows, too')
  t.same(await rebuildAll(world), [])
})

t.test('a rebuild that was under way ends with the move, and the next one does it all', async (t) => {
  const world = await openMovingWorld(t)
  const { reader, photos } = await makeFeed(world)
  const shard = shardOf(reader)
  // From a move, which the other follows at once: both raise far ahead.
  await moveShards(world.movers, { shards: [shard], to: SECOND })
  const job = steppedJob(world, (stepped) => rebuildFeed(stepped, 3).handle({ accountId: reader.toString() }, delivery()))
  await job.begin()
  await moveShards(world.movers, { shards: [shard], to: 'DATABASE_URL' }, {
    async step(step) {
      if (step === 'expected') await job.step()
    },
  })
  await job.finish()
  t.same(await world.stored(reader), [], 'nothing more by the old one')
  t.same(await world.scroll(reader, 3), photos)
  await rebuildAll(world)
  t.same(await world.stored(reader), photos.slice(0, -2))
  t.same(await world.scroll(reader, 3), photos)
})

t.test('the feeds of a big shard are asked for in ranges, each account once; of an empty one none', async (t) => {
  const world = await openMovingWorld(t)
  const [big, empty] = [40, 41]
  await sql`insert into accounts (id, status, username, display_name, feed_floor)
    select (n << 23) | (${big}::bigint << 10), 'active', n, n, 0 from generate_series(1::bigint, 1001) as n`.execute(world.source)
  await moveShards(world.movers, { shards: [big, empty], to: SECOND })
  const ranges = await takeMessages<Range>(world, 'feeds.arrived')
  t.equal(ranges.length, 3)
  for (const range of ranges) await askRebuilds(world).handle(range, delivery())
  const asked = await takeMessages<{ accountId: string }>(world, 'feed.rebuild')
  t.same([asked.length, new Set(asked.map(({ accountId }) => accountId)).size], [1001, 1001])
  t.same(asked.filter(({ accountId }) => shardOf(BigInt(accountId) as Id) !== big), [])

  const [done] = asked
  await rebuildFeed(world).handle(done ?? { accountId: '' }, delivery())
  for (const range of ranges) await askRebuilds(world).handle(range, delivery())
  t.equal((await takeMessages(world, 'feed.rebuild')).length, 1000, 'delivered again, all but the one that is done')
})

t.test('a shard stays when its arrival would make the pause too long, and goes with a copy of now', async (t) => {
  const world = await openMovingWorld(t)
  const shard = 40
  await sql`insert into accounts (id, status, username, display_name, feed_floor)
    select (n << 23) | (${shard}::bigint << 10), 'active', n, n, 0 from generate_series(1::bigint, 10000) as n`.execute(world.source)
  const stayed = await moveShards(world.movers, { shards: [shard], to: SECOND, maxPauseMs: 500 }, {
    step(step) {
      if (step === 'copied') world.clock.advance(2 * DAY_MS)
      return Promise.resolve()
    },
  })
  t.match(stayed.stayed, [{ shard, reason: /had waited \d+ ms and its arrival takes 533 more, of 500 at most/ }])
  const [estimate] = await estimateMoves(world.router, [shard])
  t.equal(estimate?.pauseMs, 50 + 10_000 / 100 + Math.round(10_000 / 300), 'with its arrival')
  const { moved } = await moveShards(world.movers, { shards: [shard], to: SECOND })
  t.equal(moved.length, 1)
})
