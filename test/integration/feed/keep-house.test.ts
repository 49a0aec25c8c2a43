import { sql } from 'kysely'
import t from 'tap'
import { addDelta } from '#domain/counters/counters.queries.ts'
import { KEY_LIFE_MS } from '#domain/idempotency/idempotency.queries.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { shardOf } from '#kernel/snowflake.ts'
import { chores } from '../../../services/fanout-worker/chores.ts'
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
