import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { originalsFolder, renditionFolder } from '#domain/photos/photos.rules.ts'
import { fanOutPage, openFanoutCursor } from '#domain/feed/feed.writes.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { purgePhoto } from '../../../services/fanout-worker/purge-photo.ts'
import { reconcilePhotos, STUCK_AFTER_MS } from '../../../services/fanout-worker/reconcile-photos.ts'
import { reconcileFollows, UNFILLED_AFTER_MS } from '../../../services/fanout-worker/reconcile-follows.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { delivery, followBody, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'

const JPEG = { contentType: 'image/jpeg' }

async function messages(world: FeedWorld): Promise<string[]> {
  const { rows } = await sql<{ text: string }>`
    select event || ' to ' || queue || ' of ' || (body ->> 'photoId') as text from outbox order by id`.execute(
    world.router.directory.primary,
  )
  return rows.map((row) => row.text)
}

async function clearOutbox(world: FeedWorld): Promise<void> {
  await sql`delete from outbox`.execute(world.router.directory.primary)
}

async function age(world: FeedWorld, photoId: Id, ms: number, status?: string): Promise<void> {
  await sql`update photos set updated_at = now() - ${ms} * interval '1 millisecond',
    status = coalesce(${status ?? null}, status) where id = ${photoId}`.execute(world.router.directory.primary)
}

t.test('a deleted photo is purged on every node: blobs, entries, cursor and row', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const author = await world.person()
  const followers = [await world.person(), await world.person({ node: 1 }), await world.person({ node: 1 })]
  for (const follower of followers) await world.follow(follower, author)
  const { photoId } = await world.publish(author)
  const kept = await world.publish(author)
  for (const photo of [photoId, kept.photoId]) await fanOutPhoto(world).handle(photoBody(photo), delivery())
  const keys = [
    `originals/${photoId}.jpg`,
    `${originalsFolder(photoId)}of-a-try-that-was-killed/original.jpg`,
    `${renditionFolder(world.config.secretKey, photoId)}thumb.jpg`,
  ]
  for (const key of keys) await world.blobs.put(key, Buffer.from('picture'), JPEG)

  const purge = purgePhoto(world)
  await purge.handle(photoBody(photoId), delivery())
  t.equal((await world.stored(followers[0] ?? author)).length, 2, 'a photo that is not deleted is left alone')

  await world.remove(author, photoId)
  await Promise.all([1, 2, 3].map(() => purge.handle(photoBody(photoId), delivery())))
  await purge.handle(photoBody(photoId), delivery())
  for (const follower of followers) t.same(await world.stored(follower), [kept.photoId])
  for (const key of keys) t.equal(await world.blobs.get(key), undefined)
  const { rows } = await sql`select from photos where id = ${photoId}`.execute(world.router.nodeOf(shardOf(photoId)).primary)
  t.equal(rows.length, 0)
})

t.test('a fan-out that is under way when its photo is purged ends', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const author = await world.person()
  for (let index = 0; index < 4; index++) await world.follow(await world.person(), author)
  const entry = await world.publish(author)
  await openFanoutCursor(db, entry.photoId)
  t.equal(await fanOutPage(db, author, entry, 2), 2)
  await world.remove(author, entry.photoId)
  await purgePhoto(world).handle(photoBody(entry.photoId), delivery())
  t.equal(await fanOutPage(db, author, entry, 2), 0)
  const { rows } = await sql`select from feed_entries`.execute(db)
  t.equal(rows.length, 0)
})

t.test('photos that nobody works on get their message again, once in ten minutes', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const author = await world.person()
  const [processing, published, deleted, done, fresh, held] = await Promise.all(
    Array.from({ length: 6 }, async () => (await world.publish(author)).photoId),
  )
  if (!processing || !published || !deleted || !done || !fresh || !held) throw new Error('no photos')
  await fanOutPhoto(world).handle(photoBody(done), delivery())
  await age(world, processing, STUCK_AFTER_MS + 4_000, 'processing')
  await age(world, published, STUCK_AFTER_MS + 3_000)
  await age(world, deleted, STUCK_AFTER_MS + 2_000, 'deleted')
  await age(world, done, STUCK_AFTER_MS + 1_000)
  await age(world, fresh, STUCK_AFTER_MS - 60_000)
  await age(world, held, STUCK_AFTER_MS + 1_000, 'review')

  const told: object[] = []
  const log = { warn: (fields: object) => void told.push(fields) }
  const counts = await Promise.all([1, 2, 3].map(() => reconcilePhotos(db, log)))
  t.same(told, [{ published: { 'photo.uploaded': 1, 'photo.published': 1, 'photo.deleted': 1 } }])
  t.equal(counts.reduce((sum, count) => sum + count, 0), 3, 'one runner, or several in turn')
  t.same(await messages(world).then((texts) => texts.sort()), [
    `photo.deleted to fanout.bulk of ${deleted}`,
    `photo.published to fanout of ${published}`,
    `photo.uploaded to safety of ${processing}`,
    `photo.uploaded to thumbnail of ${processing}`,
  ])
  t.equal(await reconcilePhotos(db, world.log), 0)
  await clearOutbox(world)
  t.equal(await reconcilePhotos(db, world.log), 0, 'touched just now')
  await age(world, published, STUCK_AFTER_MS + 1_000)
  t.equal(await reconcilePhotos(db, world.log), 1)
})

t.test('a photo with a message waiting, or a dead letter, is left to it', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const author = await world.person()
  const [waiting, dead] = [(await world.publish(author)).photoId, (await world.publish(author)).photoId]
  for (const photoId of [waiting, dead]) await age(world, photoId, STUCK_AFTER_MS + 1_000)
  await sql`insert into outbox (message_id, queue, event, body)
    values (gen_random_uuid(), 'fanout', 'photo.published', ${JSON.stringify(photoBody(waiting))}::jsonb)`.execute(db)
  await sql`insert into dead_letters (message_id, queue, event, body, enqueued_at, attempts, cause, detail)
    values (gen_random_uuid(), 'fanout', 'photo.published', ${JSON.stringify(photoBody(dead))}::jsonb, now(), 8, 'x', 'y')
  `.execute(db)
  t.equal(await reconcilePhotos(db, world.log), 0)
  await sql`delete from dead_letters`.execute(db)
  t.equal(await reconcilePhotos(db, world.log), 1)
  t.ok((await messages(world)).includes(`photo.published to fanout of ${dead}`))
})

t.test('one runner per node at a time', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const { photoId } = await world.publish(await world.person())
  await age(world, photoId, STUCK_AFTER_MS + 1_000)
  await db.transaction().execute(async (trx) => {
    await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.reconcilePhotos})`.execute(trx)
    t.equal(await reconcilePhotos(db, world.log), 0)
  })
  t.equal(await reconcilePhotos(db, world.log), 1)
})

t.test('follows that nobody backfills get their message again, unless it waits or is dead', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const [author, lost, waiting, dead, filled, gone, late] = await Promise.all(Array.from({ length: 7 }, () => world.person()))
  if (!author || !lost || !waiting || !dead || !filled || !gone || !late) throw new Error('no people')
  for (const reader of [lost, waiting, dead, filled, gone]) await world.follow(reader, author)
  await sql`update follows set backfilled_at = now() where follower_id = ${filled}`.execute(db)
  await sql`delete from accounts where id = ${gone}`.execute(db)
  await sql`insert into outbox (message_id, queue, event, body)
    values (gen_random_uuid(), 'fanout.bulk', 'follow.created', ${JSON.stringify(followBody(waiting, author))}::jsonb)`.execute(db)
  await sql`insert into dead_letters (message_id, queue, event, body, enqueued_at, attempts, cause, detail) values
    (gen_random_uuid(), 'fanout.bulk', 'follow.created', ${JSON.stringify(followBody(dead, author))}::jsonb, now(), 12, 'x', 'y')
  `.execute(db)
  world.clock.advance(UNFILLED_AFTER_MS - 60_000)
  await world.follow(late, author)
  const reconcile = (): Promise<number> => reconcileFollows(db, world.clock.nowMs(), world.log)
  t.equal(await reconcile(), 0, 'all of them are young')

  world.clock.advance(120_000)
  t.same((await Promise.all([1, 2, 3].map(reconcile))).sort(), [0, 0, 1], 'one runner, or several in turn')
  const { rows } = await sql<{ body: object }>`select body from outbox where queue = 'fanout.bulk' order by id`.execute(db)
  t.same(rows, [{ body: followBody(waiting, author) }, { body: followBody(lost, author) }])
  await clearOutbox(world)
  t.equal(await reconcile(), 2, 'and again, for as long as they are not backfilled')
})
