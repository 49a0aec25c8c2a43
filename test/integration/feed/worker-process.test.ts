import { pathToFileURL } from 'node:url'
import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { followCreated } from '#domain/follows/follows.events.ts'
import { photoPublished } from '#domain/photos/photos.events.ts'
import { publishEvent } from '#platform/outbox/publish.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { startProcess } from '../../support/processes.ts'
import { followBody, openFeedWorld, photoBody } from './feed-world.ts'

const PHOTOS = 40
const FOLLOWERS = 25
const POLL_MS = 10

t.test('a worker killed in mid-work loses nothing and doubles nothing', async (t) => {
  const world = await openFeedWorld(t)
  const db = world.router.directory.primary
  const author = await world.person()
  const followers = await Promise.all(Array.from({ length: FOLLOWERS }, () => world.person()))
  for (const follower of followers) {
    await world.follow(follower, author)
    await world.router.write(shardOf(follower), (trx) => publishEvent(trx, followCreated, followBody(follower, author)))
  }
  const photos: Id[] = []
  // As of today: the worker goes by the real clock, and so do the partitions of a migrated database.
  for (let index = 0; index < PHOTOS; index++) {
    const { photoId } = await world.publish(author, Date.now())
    await world.router.write(shardOf(author), (trx) => publishEvent(trx, photoPublished, photoBody(photoId)))
    photos.push(photoId)
  }
  const env = {
    DATABASE_URL: world.config.nodes[0]?.url ?? '',
    DATABASE_POOL_MAX: '4',
    STORAGE_URL: pathToFileURL(await temporaryDirectory(t)).href,
    SECRET_KEY: world.config.secretKey,
  }
  const waitUntil = async (condition: () => Promise<boolean>): Promise<void> => {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  const left = async (): Promise<number> => (await sql`select from outbox`.execute(db)).rows.length

  const first = await startProcess(t, 'fanout-worker', env)
  await waitUntil(async () => (await left()) < PHOTOS + FOLLOWERS)
  await first.kill('SIGKILL')
  t.ok((await left()) > 0, 'killed before it was done')
  // What the dead worker held comes due again by itself; we need not wait for that.
  await sql`update outbox set available_at = now() where claim_token is not null`.execute(db)

  const workers = await Promise.all([1, 2].map(() => startProcess(t, 'fanout-worker', env)))
  await waitUntil(async () => (await left()) === 0)
  for (const worker of workers) t.same(await worker.kill('SIGTERM'), { code: 0, signal: null })

  const { rows } = await sql<{ photo_id: Id; feeds: bigint }>`
    select photo_id, count(distinct account_id) as feeds from feed_entries group by photo_id`.execute(db)
  t.same(new Set(rows.map((row) => row.photo_id)), new Set(photos))
  t.ok(rows.every((row) => row.feeds === BigInt(FOLLOWERS)))
  const { rows: unfinished } = await sql`select from photos where fanned_out_at is null
    union all select from follows where backfilled_at is null union all select from dead_letters`.execute(db)
  t.equal(unfinished.length, 0)
})
