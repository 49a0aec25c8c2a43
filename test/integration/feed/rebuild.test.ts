import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { raiseFloor } from '#domain/feed/feed.rebuild.ts'
import { raisedFloor, storageFloor } from '#domain/feed/feed.rules.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { rebuildFeed } from '../../../services/fanout-worker/rebuild-feed.ts'
import { reconcileFeeds, UNBUILT_AFTER_MS } from '../../../services/fanout-worker/reconcile-feeds.ts'
import { DAY_MS, delivery, followBody, NOW_MS, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'
import { interleavings, steppedJob } from './stepped-job.ts'

const STEP_ROWS = 2

/** As the mover does: after it, nothing that is stored counts. */
async function raise(world: FeedWorld, accountId: Id): Promise<void> {
  await world.router.write(shardOf(accountId), async (trx) => {
    await raiseFloor(trx, [accountId], raisedFloor(world.clock.nowMs()))
    await trx.deleteFrom('feed_entries').where('account_id', '=', accountId).execute()
  })
}

function rebuild(world: FeedWorld, accountId: Id, stepRows = STEP_ROWS): Promise<void> {
  return rebuildFeed(world, stepRows).handle({ accountId: accountId.toString() }, delivery())
}

async function floorOf(world: FeedWorld, accountId: Id): Promise<{ floor: Id; isAsked: boolean }> {
  const row = await world.router
    .nodeOf(shardOf(accountId))
    .primary
    .selectFrom('accounts')
    .select(['feed_floor', 'rebuild_asked_at'])
    .where('id', '=', accountId)
    .executeTakeFirstOrThrow()
  return { floor: row.feed_floor, isAsked: row.rebuild_asked_at !== null }
}

async function followFilled(world: FeedWorld, readerId: Id, authorId: Id): Promise<void> {
  await world.follow(readerId, authorId)
  await backfillFeed(world).handle(followBody(readerId, authorId), delivery())
}

for (const nodes of [1, 2] as const) {
  t.test(`a feed is whole before, while and after it is rebuilt, on ${nodes} node(s)`, async (t) => {
    const world = await openFeedWorld(t, { nodes })
    const reader = await world.person({ node: nodes - 1 })
    const authors = [await world.person(), await world.person({ node: nodes - 1 }), await world.person()]
    const photos: Id[] = []
    for (const [index, days] of [200, 92, 90, 60, 31, 30, 12, 5, 5, 1, 0].entries()) {
      const author = authors[index % authors.length]
      if (author === undefined) throw new Error('no author')
      photos.unshift((await world.publish(author, NOW_MS - days * DAY_MS + index)).photoId)
    }
    for (const author of authors) await followFilled(world, reader, author)
    await raise(world, reader)
    t.same(await world.scroll(reader, 3), photos, 'from the authors')

    const job = steppedJob(world, (stepped) => rebuild(stepped, reader))
    await job.begin()
    for (let step = 0; step < 4; step++) {
      await job.step()
      t.same(await world.scroll(reader, 3), photos, `after step ${step}`)
    }
    await job.finish()
    t.same(await world.scroll(reader, 3), photos)
    t.same(await world.stored(reader), photos.slice(0, 9), 'all that is kept in feeds')
    t.same(await floorOf(world, reader), { floor: storageFloor(world.clock.nowMs()), isAsked: false })

    await rebuild(world, reader)
    t.same(await floorOf(world, reader), { floor: storageFloor(world.clock.nowMs()), isAsked: false }, 'once more changes nothing')
  })
}

t.test('a rebuild against a new follow and its backfill, in every order', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const orders = interleavings(
    ['raise', 'begin rebuild', 'rebuild'],
    ['follow', 'begin backfill', 'insert', 'mark'],
  )
  t.equal(orders.length, 35)
  for (const order of orders) {
    const [reader, known, author] = [await world.person({ node: 1 }), await world.person(), await world.person()]
    const old = [await world.publish(author), await world.publish(known), await world.publish(known), await world.publish(author)]
    await followFilled(world, reader, known)
    const everybodys = old.map(({ photoId }) => photoId).reverse()
    const knowns = everybodys.slice(1, 3)
    const rebuilding = steppedJob(world, (stepped) => rebuild(stepped, reader))
    const filling = steppedJob(world, (stepped) => backfillFeed(stepped).handle(followBody(reader, author), delivery()))
    const standing = { isFollowed: false }
    const acts: Record<string, () => Promise<unknown>> = {
      'raise': () => raise(world, reader),
      'begin rebuild': () => rebuilding.begin(),
      'rebuild': () => rebuilding.step(),
      'follow': async () => {
        await world.follow(reader, author)
        standing.isFollowed = true
      },
      'begin backfill': () => filling.begin(),
      'insert': () => filling.step(),
      'mark': () => filling.step(),
    }
    const wrong: string[] = []
    for (const act of order) {
      await acts[act]?.()
      const feed = await world.scroll(reader)
      if (feed.join() !== (standing.isFollowed ? everybodys : knowns).join()) wrong.push(act)
    }
    await rebuilding.finish()
    await filling.finish()
    t.same(wrong, [], `exact at every moment: ${order.join(', ')}`)
    t.same([await world.scroll(reader), await world.stored(reader)], [everybodys, everybodys], 'and all is stored')
  }
})

t.test('a rebuild against a publication and its fan-out, in every order', async (t) => {
  const world = await openFeedWorld(t)
  for (const order of interleavings(['raise', 'begin', 'step', 'step'], ['publish', 'fan out'])) {
    const [reader, author] = [await world.person(), await world.person()]
    const photos = [await world.publish(author), await world.publish(author), await world.publish(author)].map(({ photoId }) => photoId).reverse()
    await followFilled(world, reader, author)
    const job = steppedJob(world, (stepped) => rebuild(stepped, reader))
    const acts: Record<string, () => Promise<unknown>> = {
      'raise': () => raise(world, reader),
      'begin': () => job.begin(),
      'step': () => job.step(),
      'publish': async () => photos.unshift((await world.publish(author)).photoId),
      'fan out': () => fanOutPhoto(world).handle(photoBody(photos[0] ?? author), delivery()),
    }
    for (const act of order) await acts[act]?.()
    await job.finish()
    t.same([await world.scroll(reader), await world.stored(reader)], [photos, photos], order.join(', '))
  }
})

t.test('a floor that is raised meanwhile ends the rebuild, and the next one does it all', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  const photos: Id[] = []
  for (let index = 0; index < 5; index++) photos.unshift((await world.publish(author)).photoId)
  await followFilled(world, reader, author)
  await raise(world, reader)
  const job = steppedJob(world, (stepped) => rebuild(stepped, reader))
  await job.begin()
  await job.step()
  // At the same moment, so to the same floor: it counts all the same.
  await raise(world, reader)
  await job.finish()
  t.same(await world.stored(reader), [])
  t.ok((await floorOf(world, reader)).isAsked)
  t.same(await world.scroll(reader), photos)
  await Promise.all([rebuild(world, reader), rebuild(world, reader), rebuild(world, reader, 100)])
  await rebuild(world, reader)
  t.same(await world.stored(reader), photos, 'delivered three times at once, and again')
  t.notOk((await floorOf(world, reader)).isAsked)
})

t.test('a rebuild that is cut off goes on where it was; one whose message is lost is asked for again', async (t) => {
  const world = await openFeedWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  const photos: Id[] = []
  for (let index = 0; index < 5; index++) photos.unshift((await world.publish(author)).photoId)
  await followFilled(world, reader, author)
  await raise(world, reader)
  const abort = new AbortController()
  const job = steppedJob(world, (stepped) =>
    rebuildFeed(stepped, STEP_ROWS).handle({ accountId: reader.toString() }, delivery(abort.signal)),
  )
  await job.begin()
  abort.abort(new Error('deadline'))
  await t.rejects(job.finish(), /deadline/)
  t.same(await world.stored(reader), photos.slice(0, STEP_ROWS))
  const { floor } = await floorOf(world, reader)
  t.ok(floor < raisedFloor(NOW_MS) && floor > storageFloor(world.clock.nowMs()), 'it has come half the way')

  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  t.equal(await reconcileFeeds(db, world.log), 0, 'too soon')
  await sql`update accounts set rebuild_asked_at = now() - ${UNBUILT_AFTER_MS + 1_000} * interval '1 millisecond'
    where rebuild_asked_at is not null`.execute(db)
  t.equal(await reconcileFeeds(db, world.log), 1)
  t.equal(await reconcileFeeds(db, world.log), 0, 'its message is waiting')
  const { rows } = await sql<{ body: { accountId: string } }>`select body from outbox where event = 'feed.rebuild'`.execute(db)
  await rebuildFeed(world, STEP_ROWS).handle(rows[0]?.body ?? { accountId: '' }, delivery())
  t.same(await world.stored(reader), photos)
})
