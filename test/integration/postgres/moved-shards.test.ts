import { randomUUID } from 'node:crypto'
import { sql, type Kysely } from 'kysely'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { packId, shardOf, type Id } from '#kernel/snowflake.ts'
import { bumpMapVersion } from '#platform/postgres/handover.ts'
import { isDatabaseUnavailable } from '#platform/postgres/database-unavailable.ts'
import { MAP_LEASE_MS } from '#platform/postgres/map-lease.ts'
import { openRouter } from '#platform/postgres/router.ts'
import type { AppRouter, Database, Db } from '#domain/database.ts'
import { findAccount, findAccounts } from '#domain/accounts/accounts.queries.ts'
import { listFollowers } from '#domain/follows/follows.queries.ts'
import { createTestDatabase } from '../../support/database.ts'

const SILENT = pino({ level: 'silent' })
const SHARD = 7
const OTHER_SHARD = 8
const NAMES = ['ONE_URL', 'TWO_URL']

const idOf = (shard: number, sequence = 1): Id => packId({ ms: Date.UTC(2026, 5, 1), shard, sequence })
const MOVED = idOf(SHARD)

interface World {
  readonly router: AppRouter
  readonly source: Db
  readonly target: Db
  readonly clock: ReturnType<typeof manualClock>
  /** Of the two nodes. */
  readonly urls: readonly string[]
  /** Shards that arrived, as the router told. */
  readonly arrivals: number[]
}

/** All shards on the first of two nodes; an account on each of two of them, the one that moves following the other. */
async function openWorld(t: Test): Promise<World> {
  const nodes: { name: string; url: string }[] = []
  for (const name of NAMES) nodes.push({ name, url: (await createTestDatabase(t)).url })
  const clock = manualClock(0)
  const arrivals: number[] = []
  const onArrival = async (_trx: unknown, shard: number): Promise<void> => void arrivals.push(shard)
  const open = (): Promise<AppRouter> => openRouter<Database>({ nodes, poolMax: 3, applicationName: 'test', clock, onArrival }, SILENT)
  const first = await openRouter<Database>({ nodes: [{ name: 'DATABASE_URL', url: nodes[0]?.url ?? '' }], poolMax: 1, applicationName: 'test' }, SILENT)
  await sql`update shard_map set node = 'ONE_URL'`.execute(first.directory.primary)
  await first.close()
  const router = await open()
  t.teardown(() => router.close())
  const [one, two] = router.nodes
  if (one === undefined || two === undefined) throw new Error('two nodes')
  for (const id of [MOVED, idOf(OTHER_SHARD)]) await addAccount(one.primary, id, 'as it was')
  await one.primary.insertInto('follows').values({ follower_id: MOVED, followee_id: idOf(OTHER_SHARD), id: idOf(SHARD, 2) }).execute()
  return { router, source: one.primary, target: two.primary, clock, urls: nodes.map(({ url }) => url), arrivals }
}

async function addAccount(db: Db, id: Id, name: string): Promise<void> {
  const account = { id, status: 'active', username: `a${id}`, display_name: name, email: null, feed_floor: id } as const
  await db.insertInto('accounts').values(account).execute()
}

/** Moves the shard as a mover does, step by step; a newer row stands on the target once it is there. */
function mover({ source, target }: World) {
  const moveId = randomUUID()
  const state = (db: Db, name: string, peer: string): Promise<unknown> =>
    sql`insert into shard_state (shard, state, peer, move_id) values (${SHARD}, ${name}, ${peer}, ${moveId})`.execute(db)
  return {
    announce: () => changeMap(source, (db) => sql`insert into shard_moves (shard, move_id, source, target)
      values (${SHARD}, ${moveId}, 'ONE_URL', 'TWO_URL')`.execute(db)),
    async copy() {
      await state(target, 'arriving', 'ONE_URL')
      await addAccount(target, MOVED, 'moved')
      await target.insertInto('follows').values({ follower_id: MOVED, followee_id: idOf(OTHER_SHARD), id: idOf(SHARD, 2) }).execute()
    },
    depart: () => state(source, 'departed', 'TWO_URL'),
    arrive: () => sql`delete from shard_state where shard = ${SHARD}`.execute(target),
    map: () => changeMap(source, (db) => sql`update shard_map set node = 'TWO_URL' where shard = ${SHARD}`.execute(db)),
  }
}

async function changeMap(directory: Db, change: (db: Db) => Promise<unknown>): Promise<void> {
  await change(directory)
  await sql`update shard_map_version set version = version + 1`.execute(directory)
}

const nameOf = async (router: AppRouter): Promise<string | undefined> => (await findAccount(router, MOVED))?.display_name

/** All steps of a move, to its end. */
async function moveWhole(world: World): Promise<void> {
  const move = mover(world)
  await move.announce()
  await move.copy()
  await move.depart()
  await move.arrive()
  await move.map()
}

t.test('a shard that is announced is read where it is, at every step of its move', async (t) => {
  const world = await openWorld(t)
  const { router } = world
  const move = mover(world)
  await move.announce()
  await router.refresh()
  t.equal(await nameOf(router), 'as it was')
  await move.copy()
  t.equal(await nameOf(router), 'as it was', 'what arrives is not there yet')
  await move.depart()
  await move.arrive()
  t.equal(await nameOf(router), 'moved', 'though the map still says otherwise')
  const both = await findAccounts(router, [MOVED, idOf(OTHER_SHARD)])
  t.same([...both.values()].map((row) => row.display_name).sort(), ['as it was', 'moved'])
})

t.test('whoever attends writes is told of the transaction that was committed, and of no other', async (t) => {
  const world = await openWorld(t)
  const told: string[] = []
  const attend = (_trx: unknown, { name }: { name: string }): (() => void) => {
    told.push(`begun on ${name}`)
    return () => void told.push(`committed on ${name}`)
  }
  const nodes = NAMES.map((name, at) => ({ name, url: world.urls[at] ?? '' }))
  const router = await openRouter<Database>({ nodes, poolMax: 2, applicationName: 'test', attend }, SILENT)
  t.teardown(() => router.close())
  await t.rejects(router.write(SHARD, () => Promise.reject(new Error('rolled back'))), { message: 'rolled back' })
  t.same(told.splice(0), ['begun on ONE_URL'])

  await moveWhole(world)
  let runs = 0
  await router.write(SHARD, async () => {
    if (++runs === 1) throw Object.assign(new Error('deadlock detected'), { code: '40P01' })
    return Promise.resolve()
  })
  t.same(told, ['begun on TWO_URL', 'begun on TWO_URL', 'committed on TWO_URL'], 'refused at the first node’s door before it began')
})

t.test('a process that has not looked at the map for long asks the node', async (t) => {
  const world = await openWorld(t)
  await moveWhole(world)
  world.clock.advance(MAP_LEASE_MS)
  t.equal(await nameOf(world.router), 'moved')
})

t.test('a map older than the one we have renews no trust', async (t) => {
  const world = await openWorld(t)
  const { router, source, clock } = world
  await changeMap(source, () => Promise.resolve())
  await router.refresh()
  // A failover has lost that change; what the older map says of moves we do not see.
  await sql`update shard_map_version set version = version - 1`.execute(source)
  clock.advance(MAP_LEASE_MS)
  await router.refresh()
  const move = mover(world)
  await move.copy()
  await move.depart()
  await move.arrive()
  await sql`update shard_map set node = 'TWO_URL' where shard = ${SHARD}`.execute(source)
  // Its node says that the shard has left, and no map where it is: rather no answer than an old one.
  await t.rejects(nameOf(router), isUnsettled)
})

t.test('a change of the map never has a version that was lost', async (t) => {
  const { router, source } = await openWorld(t)
  await source.transaction().execute(bumpMapVersion)
  await router.refresh()
  const lost = router.mapVersion
  await sql`update shard_map_version set version = ${lost}::bigint - 1`.execute(source)
  await source.transaction().execute(bumpMapVersion)
  await router.refresh()
  t.ok(router.mapVersion > lost)
})

t.test('whoever is refused completes a handover whose mover is dead', async (t) => {
  for (const how of ['read', 'write', 'node-wide'] as const) {
    await t.test(how, async (t) => {
      const world = await openWorld(t)
      const { router, target, arrivals } = world
      const move = mover(world)
      await move.announce()
      await move.copy()
      await router.refresh()
      await move.depart()
      if (how === 'read') t.equal(await nameOf(router), 'moved')
      if (how === 'write') {
        await router.write(SHARD, (trx) => trx.updateTable('accounts').set({ bio: 'new' }).where('id', '=', MOVED).execute())
        t.match(await target.selectFrom('accounts').select('bio').where('id', '=', MOVED).execute(), [{ bio: 'new' }])
      }
      if (how === 'node-wide') {
        const followers = await listFollowers(router, idOf(OTHER_SHARD), { before: null, limit: 9 })
        t.same(followers.map((row) => row.follower_id), [MOVED], 'once')
      }
      t.same(arrivals, [SHARD], 'the domain is told, once')
      await router.refresh()
      t.equal(router.nodeOf(SHARD).name, 'TWO_URL', 'and the map is right')
      t.equal(await nameOf(router), 'moved')
      t.same(arrivals, [SHARD])
    })
  }
})

t.test('node-wide reads see a shard once, at every step', async (t) => {
  const world = await openWorld(t)
  const { router } = world
  const count = async (): Promise<number> => (await listFollowers(router, idOf(OTHER_SHARD), { before: null, limit: 9 })).length
  const move = mover(world)
  t.equal(await count(), 1)
  for (const step of ['announce', 'copy', 'depart', 'arrive', 'map'] as const) {
    await move[step]()
    if (step === 'announce') await router.refresh()
    t.equal(await count(), 1, step)
  }
})

t.test('a node-wide read in whose middle a shard changes nodes is made again', async (t) => {
  const world = await openWorld(t)
  const { router, source } = world
  const move = mover(world)
  await move.announce()
  await move.copy()
  await router.refresh()
  let round = 0
  const seen = await router.readNodes(async (db) => {
    // The target has answered before the handover, the source answers after it: neither has seen the shard.
    if (db === source && round++ === 0) {
      await move.depart()
      await move.arrive()
    }
    const { rows } = await sql<{ id: Id }>`select id from accounts
      where ((id >> 10) & 8191) <> all (array(select shard from shard_state where state <> 'gone'))`.execute(db)
    return rows.map(({ id }) => shardOf(id))
  })
  t.equal(seen.flat().filter((shard) => shard === SHARD).length, 1)
})

t.test('a process that was cut off does not read a shard that is just coming back', async (t) => {
  const world = await openWorld(t)
  const { router, source, clock } = world
  const move = mover(world)
  for (const step of ['announce', 'copy', 'depart', 'arrive', 'map'] as const) await move[step]()
  // On its way back some of its rows are there.
  await sql`update shard_state set state = 'arriving', move_id = gen_random_uuid()`.execute(source)
  clock.advance(MAP_LEASE_MS)
  const asked: string[] = []
  await router.read(SHARD, async (db) => {
    asked.push(db === source ? 'the old node' : 'the new node')
    // All of them, by the time it looks whether they were at home.
    if (db === source) await sql`delete from shard_state`.execute(source)
  })
  t.same(asked, ['the new node'])
})

t.test('an old departure does not undo a newer move', async (t) => {
  const world = await openWorld(t)
  const { router, source, target } = world
  await moveWhole(world)
  // It went on: the map has it back on the first node, where the old departure would lead it away again.
  await sql`delete from shard_moves`.execute(source)
  await changeMap(source, (db) => sql`update shard_map set node = 'ONE_URL' where shard = ${SHARD}`.execute(db))
  await router.refresh()
  world.clock.advance(MAP_LEASE_MS)
  const refused = router.write(SHARD, async () => {})
  await t.rejects(refused, isUnsettled)
  await refused.catch((error: unknown) => t.ok(isDatabaseUnavailable(error), 'to be tried again later'))
  await router.refresh()
  t.equal(router.nodeOf(SHARD).name, 'ONE_URL')
  await sql`delete from shard_state`.execute(source)
  await router.write(SHARD, async () => {})
  t.same(await straysOf(target), [])
})

const isUnsettled = { code: 'MG001' }

async function straysOf(db: Kysely<Database>): Promise<unknown[]> {
  return (await sql`select * from shard_state`.execute(db)).rows
}
