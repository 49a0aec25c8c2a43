import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { noteSeen, DORMANT_AFTER_MS, RETURN_AFTER_MS } from '#domain/feed/dormancy.ts'
import { writeThrough } from '#domain/write-through.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { rebuildFeed } from '../../../services/fanout-worker/rebuild-feed.ts'
import { accountsRester } from '../../../services/fanout-worker/rest-accounts.ts'
import { idsOf, publish } from '../cache/cached-webs.ts'
import { startWeb, type Person, type TestWeb } from '../web/web-app.ts'
import { delivery, followBody, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'
import { interleavings, steppedJob } from './stepped-job.ts'

const BATCH = 2
const PASSWORD = 'correct horse battery'

async function seen(world: FeedWorld, accountId: Id, agoMs: number): Promise<void> {
  await world.router.write(shardOf(accountId), (trx) =>
    trx.updateTable('accounts').set({ last_seen_at: new Date(world.clock.nowMs() - agoMs) }).where('id', '=', accountId).execute(),
  )
}

async function restAll(world: Pick<Context, 'router' | 'clock' | 'log'>): Promise<void> {
  const rest = accountsRester(world, BATCH)
  while (await rest()) { /* the next part */ }
}

async function dormant(world: FeedWorld): Promise<Id[]> {
  const rows = await Promise.all(world.dbs.map((db) => db.selectFrom('accounts').select('id').where('dormant', '=', true).execute()))
  return rows.flat().map(({ id }) => id)
}

async function followFilled(world: FeedWorld, readerId: Id, authorId: Id): Promise<void> {
  await world.follow(readerId, authorId)
  await backfillFeed(world).handle(followBody(readerId, authorId), delivery())
}

function comeBack(world: FeedWorld, accountId: Id): Promise<void> {
  return writeThrough(world, shardOf(accountId), (trx, stale) => noteSeen(trx, stale, accountId, world.clock.nowMs()))
}

function rebuild(world: FeedWorld, accountId: Id): Promise<void> {
  return rebuildFeed(world, 2).handle({ accountId: accountId.toString() }, delivery())
}

t.test('who was not seen for a month is passed over by fan-outs, on every node', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const author = await world.person()
  const readers = [await world.person(), await world.person({ node: 1 }), await world.person(), await world.person({ node: 1 }), await world.person()]
  const [here, there, recent, today] = readers
  if (here === undefined || there === undefined || recent === undefined || today === undefined) throw new Error('too few')
  for (const reader of readers) await followFilled(world, reader, author)
  for (const reader of readers) await seen(world, reader, 0)
  await seen(world, author, 0)
  for (const reader of [here, there]) await seen(world, reader, DORMANT_AFTER_MS + 1)
  await seen(world, recent, RETURN_AFTER_MS)
  // Seen by a session of which the account does not know.
  await seen(world, today, 2 * DORMANT_AFTER_MS)
  await world.router.write(shardOf(today), (trx) =>
    trx
      .insertInto('sessions')
      .values({ account_id: today, id: world.mint(shardOf(today)), secret_hash: Buffer.alloc(32), user_agent: '', last_seen_at: new Date(world.clock.nowMs()), expires_at: new Date() })
      .execute(),
  )
  await restAll(world)
  t.same((await dormant(world)).sort(), [here, there].sort())

  const { photoId } = await world.publish(author)
  await fanOutPhoto(world, 2).handle(photoBody(photoId), delivery())
  const stored = await Promise.all(readers.map((reader) => world.stored(reader)))
  t.same(stored, readers.map((reader) => (reader === here || reader === there ? [] : [photoId])))

  for (const reader of [here, there]) {
    await comeBack(world, reader)
    t.same(await world.scroll(reader), [photoId], 'there at once')
    await rebuild(world, reader)
    t.same(await world.stored(reader), [photoId], 'and stored')
  }
  t.same(await dormant(world), [])
  await restAll(world)
  t.same(await dormant(world), [], 'they stay')
  const { photoId: next } = await world.publish(author)
  await fanOutPhoto(world, 2).handle(photoBody(next), delivery())
  for (const reader of readers) t.same(await world.scroll(reader), [next, photoId])
})

t.test('a return and its rebuild against a publication and its fan-out, in every order', async (t) => {
  const world = await openFeedWorld(t)
  for (const order of interleavings(['return', 'begin', 'step'], ['publish', 'fan out', 'publish', 'fan out'])) {
    const [reader, author] = [await world.person(), await world.person()]
    const photos = [await world.publish(author), await world.publish(author)].map(({ photoId }) => photoId).reverse()
    await followFilled(world, reader, author)
    await seen(world, author, 0)
    await seen(world, reader, DORMANT_AFTER_MS + 1)
    await restAll(world)
    const job = steppedJob(world, (stepped) => rebuild(stepped, reader))
    let [isBack, onTheWay] = [false, 0]
    const wrong: string[] = []
    const acts: Record<string, () => Promise<unknown>> = {
      'return': () => comeBack(world, reader).then(() => (isBack = true)),
      'begin': () => job.begin(),
      'step': () => job.step(),
      'publish': async () => (onTheWay = photos.unshift((await world.publish(author)).photoId)),
      'fan out': () => fanOutPhoto(world).handle(photoBody(photos[0] ?? author), delivery()).then(() => (onTheWay = 0)),
    }
    for (const act of order) {
      await acts[act]?.()
      // A dormant account reads nothing. A photo whose fan-out has not come yet may be missing.
      const feed = (await world.scroll(reader)).join()
      if (isBack && feed !== photos.join() && (onTheWay === 0 || feed !== photos.slice(1).join())) wrong.push(act)
    }
    await job.finish()
    t.same(wrong, [], order.join(', '))
    t.same([await world.scroll(reader), await world.stored(reader)], [photos, photos], order.join(', '))
  }
})

async function age(web: TestWeb, person: Person, agoMs: number): Promise<void> {
  const db = web.context.router.directory.primary
  const then = new Date(Date.now() - agoMs)
  await sql`update accounts set last_seen_at = ${then} where id = ${person.id}`.execute(db)
  await sql`update sessions set last_seen_at = ${then} where account_id = ${person.id}`.execute(db)
}

t.test('the first request after a month brings the feed back, with the old token or a new one', async (t) => {
  const web = await startWeb(t)
  const [author, reader] = [await web.person('author'), await web.person('reader')]
  await web.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  await backfillFeed(web.context).handle(followBody(BigInt(reader.id) as Id, BigInt(author.id) as Id), delivery())
  const photos: string[] = []
  const missPhoto = async (): Promise<void> => {
    await age(web, reader, DORMANT_AFTER_MS + 1_000)
    await restAll(web.context)
    photos.unshift((await publish(web.context, author)).toString())
  }

  await missPhoto()
  t.same(idsOf(await web.send('GET', '/v1/feed', { as: reader })), photos, 'in the very first answer')
  await missPhoto()
  const signedIn = await web.send('POST', '/v1/sessions', { body: { username: 'reader', password: PASSWORD } })
  t.same(idsOf(await web.send('GET', '/v1/feed', { as: { token: signedIn.body.token ?? '' } })), photos, 'signed in anew')
  const { rows } = await sql`select from outbox where event = 'feed.rebuild'`.execute(web.context.router.directory.primary)
  t.equal(rows.length, 2, 'a rebuild each')

  await age(web, reader, RETURN_AFTER_MS + 1_000)
  t.same(idsOf(await web.send('GET', '/v1/feed', { as: reader })), photos)
  const again = await sql`select from outbox where event = 'feed.rebuild'`.execute(web.context.router.directory.primary)
  t.equal(again.rows.length, 2, 'none for who was not dormant')
})
