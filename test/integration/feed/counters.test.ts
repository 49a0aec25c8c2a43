import { sql } from 'kysely'
import t from 'tap'
import { shardOf } from '#kernel/snowflake.ts'
import { addDelta, foldDeltas, readCounts } from '#domain/counters/counters.queries.ts'
import { listFollowers } from '#domain/follows/follows.queries.ts'
import { openFeedWorld } from './feed-world.ts'

t.test('a count is exact before, between and after folds', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const person = await world.person()
  const unknown = world.mint(3)
  const read = async (): Promise<unknown> => Object.fromEntries(await readCounts(world.router, [person, unknown], ['photos', 'following']))
  const none = { photos: 0, following: 0 }
  t.same(await read(), { [person.toString()]: none, [unknown.toString()]: none })
  for (const delta of [1, 1, 1, -1]) await world.router.write(shardOf(person), (trx) => addDelta(trx, person, 'photos', delta))
  await world.router.write(shardOf(person), (trx) => addDelta(trx, person, 'following', 1))
  const exact = { [person.toString()]: { photos: 2, following: 1 }, [unknown.toString()]: none }
  t.same(await read(), exact)
  t.equal(await foldDeltas(db, 3), 3)
  t.same(await read(), exact)
  t.equal(await foldDeltas(db, 3), 2)
  t.equal(await foldDeltas(db, 3), 0)
  t.same(await read(), exact)
  const { rows } = await sql`select from counter_deltas`.execute(db)
  t.equal(rows.length, 0)
})

t.test('followers are counted where they live and summed over the nodes', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const author = await world.person()
  for (const node of [0, 1, 1]) {
    const follower = await world.person({ node })
    await world.router.write(shardOf(follower), (trx) => addDelta(trx, author, 'followers', 1))
  }
  const count = async (): Promise<unknown> => (await readCounts(world.router, [author], ['followers'])).get(author)
  t.same(await count(), { followers: 3 })
  for (const db of world.dbs) await foldDeltas(db)
  t.same(await count(), { followers: 3 })
})

t.test('while many write and fold at once, no reader sees a change twice or not at all', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const [from, to] = [await world.person(), await world.person()]
  const wrong: unknown[] = []
  let isWriting = true

  // Each change moves one from an account to the other: together they are nought in every snapshot.
  const writer = async (): Promise<void> => {
    for (let index = 0; index < 40; index++) {
      await world.router.write(shardOf(from), async (trx) => {
        await addDelta(trx, from, 'photos', -1)
        await addDelta(trx, to, 'photos', 1)
      })
    }
  }
  const folder = async (): Promise<void> => {
    while (isWriting) await foldDeltas(db, 7)
  }
  const reader = async (): Promise<void> => {
    while (isWriting) {
      const counts = await readCounts(world.router, [from, to], ['photos'])
      if ((counts.get(from)?.photos ?? NaN) + (counts.get(to)?.photos ?? NaN) !== 0) wrong.push(counts)
    }
  }
  const others = Promise.all([folder(), folder(), reader()])
  await Promise.all([writer(), writer()])
  isWriting = false
  await others
  t.same(wrong, [])
  t.same((await readCounts(world.router, [from, to], ['photos'])).get(to), { photos: 80 })
  while ((await foldDeltas(db)) > 0);
  t.same((await readCounts(world.router, [from, to], ['photos'])).get(from), { photos: -80 })
})

t.test('deltas of a shard on the move stay until it is settled', async (t) => {
  const world = await openFeedWorld(t)
  const [db] = world.dbs
  if (db === undefined) throw new Error('no node')
  const person = await world.person()
  await world.router.write(shardOf(person), (trx) => addDelta(trx, person, 'photos', 1))
  await sql`insert into shard_state (shard, state, peer, move_id) values (${shardOf(person)}, 'departed', '', gen_random_uuid())`.execute(db)
  t.equal(await foldDeltas(db), 0)
})

t.test('what a shard left behind on its old node is neither counted nor listed twice', async (t) => {
  const world = await openFeedWorld(t, { nodes: 2 })
  const [person, follower] = [await world.person(), await world.person()]
  await world.follow(follower, person)
  await world.router.write(shardOf(person), (trx) => addDelta(trx, person, 'photos', 1))
  const other = world.dbs.find((db) => db !== world.router.nodeOf(shardOf(person)).primary)
  if (other === undefined) throw new Error('no second node')
  for (const shard of new Set([shardOf(person), shardOf(follower)])) {
    await sql`insert into shard_state (shard, state, peer, move_id) values (${shard}, 'departed', '', gen_random_uuid())`.execute(other)
  }
  await sql`insert into counter_deltas (subject_id, kind, delta) values (${person}, 'photos', 1)`.execute(other)
  await sql`insert into follows (follower_id, followee_id, id) values (${follower}, ${person}, 1)`.execute(other)
  t.match((await readCounts(world.router, [person], ['photos', 'followers'])).get(person), { photos: 1 })
  t.equal((await listFollowers(world.router, person, { before: null, limit: 10 })).length, 1)
})
