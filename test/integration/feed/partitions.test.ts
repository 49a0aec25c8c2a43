import { sql } from 'kysely'
import t from 'tap'
import { firstIdAt, type Id } from '#kernel/snowflake.ts'
import type { Db } from '#domain/database.ts'
import { dropExpiredPartitions, ensurePartitions, partitionOf, partitionsAt } from '#domain/feed/feed.partitions.ts'
import { DAY_MS, NOW_MS, openFeedWorld } from './feed-world.ts'

/** Far from the months that the template was migrated in. */
const THEN_MS = Date.UTC(2031, 4, 20)

async function attached(db: Db): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select inhrelid::regclass::text as name from pg_inherits
    where inhparent = 'feed_entries'::regclass and not inhdetachpending order by 1`.execute(db)
  return rows.map((row) => row.name)
}

async function onlyNode(world: Awaited<ReturnType<typeof openFeedWorld>>): Promise<Db> {
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  return db
}

t.test('a partition is a calendar month of published ids, UTC', async (t) => {
  const january = { name: 'feed_entries_2027_01', from: firstIdAt(Date.UTC(2027, 0, 1)), to: firstIdAt(Date.UTC(2027, 1, 1)) }
  t.same(partitionOf(january.from), january)
  t.same(partitionOf((january.to - 1n) as Id), january)
  t.equal(partitionOf(january.to).name, 'feed_entries_2027_02')
  t.equal(partitionOf(0n as Id).name, 'feed_entries_2026_01')
  t.same(
    partitionsAt(Date.UTC(2027, 0, 31)).map(({ name }) => name.slice(-7)),
    ['2026_10', '2026_11', '2026_12', '2027_01', '2027_02', '2027_03', '2027_04'],
    'from the month of the oldest kept entry to three months ahead',
  )
  t.equal(partitionsAt(Date.UTC(2026, 0, 1))[0]?.name, 'feed_entries_2026_01', 'never before the first id')
})

t.test('made once, whoever comes and however often', async (t) => {
  const world = await openFeedWorld(t)
  const db = await onlyNode(world)
  const wanted = partitionsAt(THEN_MS).map(({ name }) => name)
  const made = await Promise.all([1, 2, 3].map(() => ensurePartitions(db, THEN_MS)))
  t.same(made.flat().sort(), wanted)
  t.same(await ensurePartitions(db, THEN_MS), [])
  t.same((await attached(db)).filter((name) => name >= 'feed_entries_2031'), wanted)
})

t.test('making one stops neither readers nor writers', async (t) => {
  const world = await openFeedWorld(t)
  const db = await onlyNode(world)
  await db.transaction().execute(async (trx) => {
    await sql`insert into feed_entries values (1, ${firstIdAt(NOW_MS)}, 1)`.execute(trx)
    t.equal((await ensurePartitions(db, THEN_MS)).length, partitionsAt(THEN_MS).length)
  })
})

t.test('an id from a clock that is weeks off finds its partition', async (t) => {
  const world = await openFeedWorld(t)
  const db = await onlyNode(world)
  for (const days of [-92, -90, -31, 0, 31, 75]) {
    await sql`insert into feed_entries values (1, ${firstIdAt(NOW_MS + days * DAY_MS)}, 1)`.execute(db)
  }
})

t.test('dropped when wholly older than what is kept, and not a day before', async (t) => {
  const world = await openFeedWorld(t)
  const db = await onlyNode(world)
  await ensurePartitions(db, THEN_MS)
  await dropExpiredPartitions(db, THEN_MS)
  t.same(await attached(db), partitionsAt(THEN_MS).map(({ name }) => name))
  // 2031-02-28 24:00 and 92 days.
  const expiryMs = Date.UTC(2031, 2, 1) + 92 * DAY_MS
  t.same(await dropExpiredPartitions(db, expiryMs - 1), [])
  t.same(await dropExpiredPartitions(db, expiryMs), ['feed_entries_2031_02'])
  t.equal((await attached(db))[0], 'feed_entries_2031_03')
})

t.test('two who drop at once drop each once, and a round later nothing is left', async (t) => {
  const world = await openFeedWorld(t)
  const db = await onlyNode(world)
  await ensurePartitions(db, THEN_MS)
  await Promise.all([1, 2, 3].map(() => dropExpiredPartitions(db, THEN_MS + 100 * DAY_MS)))
  await dropExpiredPartitions(db, THEN_MS + 100 * DAY_MS)
  const kept = partitionsAt(THEN_MS + 100 * DAY_MS).map(({ name }) => name)
  t.same(await attached(db), kept.filter((name) => name <= 'feed_entries_2031_08'))
  const { rows } = await sql`select from pg_class where relname ~ '^feed_entries_2031_0[1-4]$'`.execute(db)
  t.equal(rows.length, 0)
})

t.test('what a crash left detached, or half detached, is finished', async (t) => {
  const world = await openFeedWorld(t)
  const db = await onlyNode(world)
  await ensurePartitions(db, THEN_MS)
  await sql`alter table feed_entries detach partition feed_entries_2031_02 concurrently`.execute(db)
  await leaveHalfDetached(db, 'feed_entries_2031_03')
  t.notMatch(await attached(db), ['feed_entries_2031_03'])
  const laterMs = Date.UTC(2031, 3, 1) + 93 * DAY_MS
  const dropped = await dropExpiredPartitions(db, laterMs)
  t.same(dropped.slice(-1), ['feed_entries_2031_02'])
  t.equal(dropped[0], 'feed_entries_2031_03', 'no other can be detached until this one is')
  t.equal((await attached(db))[0], 'feed_entries_2031_04')
})

/** Cancels a detach while it waits for an old transaction, as a crash would. */
async function leaveHalfDetached(db: Db, name: string): Promise<void> {
  await db.transaction().execute(async (reader) => {
    await sql`select count(*) from feed_entries`.execute(reader)
    const detaching = sql`alter table feed_entries detach partition ${sql.table(name)} concurrently`.execute(db)
    const outcome = detaching.then(
      () => 'detached',
      () => 'cancelled',
    )
    let cancelled = 0
    while (cancelled === 0) {
      const { rows } = await sql<{ done: boolean }>`
        select pg_cancel_backend(pid) as done from pg_stat_activity a join pg_inherits i on i.inhdetachpending
        where a.query like 'alter table feed_entries detach%' and a.datname = current_database()
          and a.wait_event_type = 'Lock'`.execute(db)
      cancelled = rows.length
    }
    if ((await outcome) !== 'cancelled') throw new Error('the detach was not cut short')
  })
}
