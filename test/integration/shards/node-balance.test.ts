import { sql } from 'kysely'
import t from 'tap'
import type { Db } from '#domain/database.ts'
import { readBalance, type NodeBalance } from '#domain/shards/node-balance.ts'
import { SHARD_COUNT } from '#kernel/snowflake.ts'
import { SUPERUSER } from '../../../scripts/stack/postgres-server.ts'
import { openDatabase } from '../../support/open-database.ts'
import { furnish, openMovingWorld, FIRST, SECOND } from './moving-world.ts'
import { analyse, writeAndTell } from './statistics.ts'

const SAMPLE_MS = 100
const FOLLOWS = 3_000
const noWait = async (): Promise<void> => {}

/** How many rows of the domain there really are on a node. */
async function countRows(db: Db): Promise<number> {
  const tables = ['accounts', 'credentials', 'sessions', 'photos', 'follows', 'idempotency_keys', 'counters', 'counter_deltas',
    'usernames', 'emails', 'anonymous_idempotency_keys', 'feed_entries']
  const counts = tables.map((table) => `select count(*)::int as n from ${table}`)
  const { rows } = await sql<{ n: number }>`select sum(n)::int as n from (${sql.raw(counts.join(' union all '))}) as c`.execute(db)
  return rows[0]?.n ?? 0
}

t.test('shards, accounts, rows and bytes are those of each node', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target } = world
  const [ada, bela] = [await world.person(), await world.person({ node: 1 })]
  await furnish(world, ada, 'ada')
  await world.person()
  const { publishedId, photoId } = await world.publish(ada)
  await sql`insert into feed_entries (account_id, published_id, photo_id) values (${bela}, ${publishedId}, ${photoId})`.execute(target)
  await sql`insert into follows (follower_id, followee_id, id, backfilled_at)
    select ${bela}, n, n, now() from generate_series(1, ${FOLLOWS}) as n`.execute(target)
  // Autovacuum does so after a while. The parent of the partitions has no rows of its own.
  for (const db of world.dbs) await analyse(db)

  const balance = await readBalance(router, SAMPLE_MS, noWait)
  const half = SHARD_COUNT / 2
  t.match(balance, [
    { name: FIRST, shards: half, accounts: 2, rows: await countRows(source) },
    { name: SECOND, shards: half, accounts: 1, rows: await countRows(target) },
  ])
  const [first, second] = balance
  const { rows } = await sql<{ bytes: number }>`select pg_total_relation_size('follows')::int as bytes`.execute(target)
  t.ok((second?.bytes ?? 0) - (first?.bytes ?? 0) > (rows[0]?.bytes ?? 0) / 2, 'the follows take room')
  t.ok((second?.bytes ?? Infinity) < 2 * (first?.bytes ?? 0) + (rows[0]?.bytes ?? 0))

  await t.test('also when the server has forgotten them', async (t) => {
    // As a crash does, and a promotion.
    const asSuperuser = new URL(world.config.nodes[1]?.url ?? '')
    asSuperuser.username = SUPERUSER
    await sql`select pg_stat_reset()`.execute(openDatabase(t, asSuperuser.href))
    t.match((await readBalance(router, SAMPLE_MS, noWait))[1], { accounts: 1, rows: await countRows(target) })
  })
})

t.test('writes are counted where they are made, for as long as is said', async (t) => {
  const world = await openMovingWorld(t)
  const began = Date.now()
  let [from, to] = [0, 0]
  let written = 0
  const balance = await readBalance(world.router, SAMPLE_MS, async (ms) => {
    t.equal(ms, SAMPLE_MS)
    from = Date.now()
    for (let round = 0; round < 20; round++) written += await writeAndTell(world.target)
    to = Date.now()
  })
  const ended = Date.now()
  const perSecond = ({ writesPerSecond }: NodeBalance): number => writesPerSecond
  const [first = -1, second = -1] = balance.map(perSecond)
  t.equal(first, 0)
  t.ok(second >= (written * 1_000) / (ended - began + 1), `${second} writes per second`)
  t.ok(second <= (written * 1_000) / Math.max(1, to - from - 1), `${second} writes per second`)
})
