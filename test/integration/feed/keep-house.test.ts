import { sql } from 'kysely'
import t from 'tap'
import { addDelta } from '#domain/counters/counters.queries.ts'
import { KEY_LIFE_MS } from '#domain/idempotency/idempotency.queries.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { shardOf } from '#kernel/snowflake.ts'
import { originalsFolder } from '#domain/photos/photos.rules.ts'
import { chores } from '../../../services/fanout-worker/chores.ts'
import { originalsSweeper, STRAY_ORIGINAL_AGE_MS } from '../../../services/fanout-worker/sweep-originals.ts'
import { createHouseKeeper, type Chore } from '#platform/lifecycle/house-keeper.ts'
import { DAY_MS, NOW_MS, openFeedWorld, type FeedWorld } from './feed-world.ts'

const log = createLogger({ process: 'test', level: 'silent' })

async function count(world: FeedWorld, table: string): Promise<number> {
  const { rows } = await sql`select from ${sql.table(table)}`.execute(world.router.directory.primary)
  return rows.length
}

t.test('one round folds, drops what is over and keeps what is not', async (t) => {
  const world = await openFeedWorld(t)
  const db = world.router.directory.primary
  const person = await world.person()
  await world.router.write(shardOf(person), (trx) => addDelta(trx, person, 'photos', 1))
  const at = (ageMs: number): Date => new Date(world.clock.nowMs() - ageMs)
  for (const [key, ageMs] of [['old', KEY_LIFE_MS + 1], ['young', KEY_LIFE_MS - 60_000]] as const) {
    await db
      .insertInto('idempotency_keys')
      .values({ account_id: person, key, resource_id: person, locked_until: at(0), created_at: at(ageMs) })
      .execute()
  }
  for (const [agent, ageMs] of [['expired', 1], ['live', -DAY_MS]] as const) {
    await db
      .insertInto('sessions')
      .values({ account_id: person, id: world.mint(1), secret_hash: Buffer.of(1), user_agent: agent, expires_at: at(ageMs) })
      .execute()
  }
  for (const ageMs of [2 * DAY_MS, 0]) {
    await db
      .insertInto('fanout_cursors')
      .values({ photo_id: world.mint(1), last_follower_id: person, updated_at: at(ageMs) })
      .execute()
  }
  const keeper = createHouseKeeper(chores(world), log)
  await keeper.runOnce()
  await keeper.close()

  t.equal(await count(world, 'counter_deltas'), 0)
  t.same((await db.selectFrom('idempotency_keys').select('key').execute()).map((row) => row.key), ['young'])
  t.same((await db.selectFrom('sessions').select('user_agent').execute()).map((row) => row.user_agent), ['live'])
  t.equal(await count(world, 'fanout_cursors'), 1)
})

t.test('an original that no photo names goes when it is a day old, a part of the store at a time', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const authors = [await world.person(), await world.person({ node: 1 })]
  const kept: string[] = []
  const stray: string[] = []
  for (const author of [...authors, ...authors]) {
    const { photoId } = await world.publish(author)
    const named = `${originalsFolder(photoId)}0123456789abcdef/original.jpg`
    await sql`update photos set original_key = ${named} where id = ${photoId}`.execute(world.router.nodeOf(shardOf(photoId)).primary)
    kept.push(named)
    stray.push(`${originalsFolder(photoId)}fedcba9876543210/original.jpg`)
    stray.push(`${originalsFolder(world.mint(shardOf(author)))}0123456789abcdef/original.jpg`)
  }
  kept.push('originals/readme.jpg', 'originals/0/a.jpg')
  for (const key of [...kept, ...stray]) await world.blobs.put(key, Buffer.from('picture'), { contentType: 'image/jpeg' })
  const left = async (): Promise<string[]> => (await world.blobs.list('originals/', { limit: 100 })).map(({ key }) => key)
  const walk = async (): Promise<void> => {
    const sweep = originalsSweeper(world, 5)
    let parts = 1
    while (await sweep()) parts++
    t.equal(parts, 3)
  }
  // The files are of today, whatever the world's clock says.
  world.clock.step(Date.now() + STRAY_ORIGINAL_AGE_MS - 60_000 - world.clock.nowMs())
  await walk()
  t.same(await left(), [...kept, ...stray].sort())
  world.clock.step(120_000)
  const sweep = originalsSweeper(world, 5)
  while (await sweep());
  t.same(await left(), kept.sort())
})

t.test('an original is not deleted because the map of shards is old', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const [first, second] = world.dbs
  if (first === undefined || second === undefined) throw new Error('no nodes')
  const { photoId } = await world.publish(await world.person())
  const key = `${originalsFolder(photoId)}0123456789abcdef/original.jpg`
  await sql`update photos set original_key = ${key} where id = ${photoId}`.execute(first)
  await world.blobs.put(key, Buffer.from('picture'), { contentType: 'image/jpeg' })
  const { rows } = await sql<object>`delete from photos where id = ${photoId} returning *`.execute(first)
  await sql`insert into photos select * from jsonb_populate_recordset(null::photos, ${toJson(rows)}::jsonb)`.execute(second)
  await sql`insert into shard_state (shard, state, peer, move_id) values (${shardOf(photoId)}, 'departed', 'SECOND_URL', gen_random_uuid())`.execute(first)
  await sql`update shard_map set node = 'SECOND_URL' where shard = ${shardOf(photoId)}`.execute(first)
  await sql`update shard_map_version set version = version + 1`.execute(first)

  world.clock.step(Date.now() + 2 * STRAY_ORIGINAL_AGE_MS - world.clock.nowMs())
  t.equal(await originalsSweeper(world)(), false)
  t.ok(await world.blobs.get(key).then((blob) => blob?.stream.destroy()))
})

function toJson(rows: readonly object[]): string {
  return JSON.stringify(rows, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))
}

t.test('partitions follow the clock', async (t) => {
  const world = await openFeedWorld(t)
  const names = async (): Promise<string[]> => {
    const { rows } = await sql<{ name: string }>`select inhrelid::regclass::text as name from pg_inherits
      where inhparent = 'feed_entries'::regclass order by 1`.execute(world.router.directory.primary)
    return rows.map((row) => row.name)
  }
  world.clock.advance(Date.UTC(2031, 4, 20) - NOW_MS)
  await createHouseKeeper(chores(world), log).runOnce()
  t.same((await names()).map((name) => name.slice(-7)), [
    '2031_02', '2031_03', '2031_04', '2031_05', '2031_06', '2031_07', '2031_08',
  ])
})

t.test('several workers keep one house', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  world.clock.advance(365 * DAY_MS)
  await Promise.all([1, 2, 3].map(() => createHouseKeeper(chores(world), log).runOnce()))
})

t.test('a full batch is followed by another at once, a failure by the next interval, a close by nothing', async (t) => {
  const ran: string[] = []
  const secondRun = Promise.withResolvers<undefined>()
  const parts: Chore = {
    name: 'parts',
    intervalMs: DAY_MS,
    run: async () => ran.push('part') < 3,
  }
  let failures = 0
  const failing: Chore = {
    name: 'failing',
    intervalMs: 1,
    run: async () => {
      if (++failures === 2) secondRun.resolve(undefined)
      throw new Error('this chore fails')
    },
  }
  const keeper = createHouseKeeper([parts, failing], log)
  keeper.start()
  await secondRun.promise
  await keeper.close()
  t.same(ran, ['part', 'part', 'part'])
  const before = failures
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(failures, before)
})
