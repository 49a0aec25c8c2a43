import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { shardOfName } from '#kernel/shard-hash.ts'
import { findAccountByUsername } from '#domain/accounts/accounts.queries.ts'
import { foldDeltas, readCounts } from '#domain/counters/counters.queries.ts'
import { moveShards } from '#domain/shards/move-shards.ts'
import { SHARDED_TABLES, UNSHARDED_TABLES } from '#domain/shards/sharded-tables.ts'
import { MoverBusyError } from '#platform/postgres/shard-moves/announcements.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { eventually } from '../../support/eventually.ts'
import { FIRST, furnish, openMovingWorld, rowsOf, SECOND, statesOf } from './moving-world.ts'

t.test('every table has been thought of', async (t) => {
  const { source } = await openMovingWorld(t)
  const { rows } = await sql<{ name: string }>`select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition`.execute(source)
  const sharded = [...SHARDED_TABLES.moved, ...SHARDED_TABLES.left].map(({ name }) => name)
  t.same(rows.map(({ name }) => name).sort(), [...sharded, ...UNSHARDED_TABLES].sort(), 'see shared/domain/shards/sharded-tables.ts')
})

t.test('the rows of every table arrive, those of other shards stay, and counts are right', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target, movers } = world
  const [ada, bela, cleo] = [await world.person(), await world.person(), await world.person({ node: 1 })]
  for (const [id, name] of [[ada, 'ada'], [bela, 'bela'], [cleo, 'cleo']] as const) await furnish(world, id, name)
  await world.publish(ada)
  await world.publish(bela)
  for (const [follower, followee] of [[ada, bela], [bela, ada], [cleo, ada]] as const) await world.follow(follower, followee)
  for (const follower of [bela, cleo]) {
    await router.write(shardOf(follower), (trx) => trx.insertInto('counter_deltas').values({ subject_id: ada, kind: 'followers', delta: 1 }).execute())
  }
  const counts = async (): Promise<unknown> => Object.fromEntries(await readCounts(router, [ada, bela, cleo], ['photos', 'followers', 'following']))
  const before = await counts()
  // Of ada both her account and her names; of bela nothing.
  const shards = [shardOf(ada), shardOfName('ada')]
  const moving = await rowsOf(source, [shardOf(ada)])
  const names = await rowsOf(router.nodeOf(shardOfName('ada')).primary, [shardOfName('ada')])
  const staying = await rowsOf(source, [shardOf(bela)])

  const report = await moveShards(movers, { shards, to: SECOND })
  t.same([report.stayed, report.unfinished], [[], []])
  t.same(await rowsOf(target, [shardOf(ada)]), moving)
  t.same(await rowsOf(target, [shardOfName('ada')]), names)
  t.same(await rowsOf(source, [shardOf(bela)]), staying)
  t.same(Object.values(moving).map((rows) => rows.length > 0), [true, true, true, true, true, true, true, false, false, false])
  t.same([names.usernames?.length, names.emails?.length, names.anonymous_idempotency_keys?.length], [1, 1, 1])
  t.equal(router.nodeOf(shardOf(ada)).name, SECOND)
  t.equal(report.moved.find(({ shard }) => shard === shardOf(ada))?.rows, Object.values(moving).flat().length)
  t.same(await counts(), before)
  for (const db of world.dbs) await foldDeltas(db)
  t.same(await counts(), before)
  t.equal((await findAccountByUsername(router, 'person1'))?.id ?? 0n, 0n, 'a name that nobody reserved')
  const { rows } = await sql`select from shard_moves`.execute(source)
  t.equal(rows.length, 0, 'nothing is announced any more')
})

t.test('writes wait while the shard moves, and are then made where it is', async (t) => {
  const world = await openMovingWorld(t)
  const { router, target, movers } = world
  const person = await world.person()
  const shard = shardOf(person)
  const bio = (text: string, of = router): Promise<unknown> => of.write(shard, (trx) => trx.updateTable('accounts').set({ bio: text }).where('id', '=', person).execute())
  // Of a process that has heard of nothing.
  const late = await openRouter<never>({ nodes: world.config.nodes, poolMax: 2, applicationName: 'test' }, world.log)
  t.teardown(() => late.close())
  let waiting: Promise<unknown> | undefined
  await moveShards(movers, { shards: [shard], to: SECOND }, {
    async step(step) {
      if (step === 'copied') await bio('written after the copy')
      if (step === 'locked') waiting = bio('written into the closed door', late as never)
      if (step === 'verified') {
        const { rows } = await sql<{ bio: string }>`select bio from accounts where id = ${person}`.execute(target)
        t.same(rows, [{ bio: 'written after the copy' }])
      }
    },
  })
  await waiting
  const { rows } = await sql<{ bio: string }>`select bio from accounts where id = ${person}`.execute(target)
  t.same(rows, [{ bio: 'written into the closed door' }])
})

t.test('rows that are deleted while their copy stands are deleted there, too', async (t) => {
  const world = await openMovingWorld(t)
  const [reader, author] = [await world.person(), await world.person()]
  await world.follow(reader, author)
  const { photoId } = await world.publish(reader)
  const shard = shardOf(reader)
  await moveShards(world.movers, { shards: [shard], to: SECOND }, {
    async step(step) {
      if (step !== 'copied') return
      await world.unfollow(reader, author)
      await world.router.write(shard, (trx) => trx.deleteFrom('photos').where('id', '=', photoId).execute())
    },
  })
  const rows = await rowsOf(world.target, [shard])
  t.same([rows.follows, rows.photos], [[], []])
  t.equal(rows.accounts?.length, 1)
})

t.test('a shard may come home, and go again', async (t) => {
  const world = await openMovingWorld(t)
  const person = await world.person()
  await furnish(world, person, 'homing')
  const shard = shardOf(person)
  const before = await rowsOf(world.source, [shard])
  await moveShards(world.movers, { shards: [shard], to: SECOND })
  await world.router.write(shard, (trx) => trx.deleteFrom('sessions').where('account_id', '=', person).execute())
  await moveShards(world.movers, { shards: [shard], to: FIRST })
  t.same(await rowsOf(world.source, [shard]), { ...before, sessions: [] })
  t.same(await statesOf(world.source), {})
  t.same(await statesOf(world.target), { [shard]: 'departed' })
  await moveShards(world.movers, { shards: [shard], to: SECOND })
  t.same(await rowsOf(world.target, [shard]), { ...before, sessions: [] })
  t.same(await statesOf(world.target), {})
})

t.test('of two movers one is refused', async (t) => {
  const world = await openMovingWorld(t)
  const shard = shardOf(await world.person())
  await moveShards(world.movers, { shards: [shard], to: SECOND }, {
    async step(step) {
      if (step === 'copied') await t.rejects(moveShards(world.movers, { shards: [shard], to: SECOND }), MoverBusyError)
    },
  })
  t.equal(world.router.nodeOf(shard).name, SECOND)
})

t.test('a shard whose pause is too long stays, and the others move', async (t) => {
  const world = await openMovingWorld(t)
  const [one, two] = [shardOf(await world.person()), shardOf(await world.person())]
  const report = await moveShards(world.movers, { shards: [one, two], to: SECOND, maxPauseMs: 500 }, {
    async step(step, shard) {
      if (step !== 'verified' || shard !== one) return
      await eventually('the server has opened the door', async () => {
        const { rows } = await sql`select from pg_locks where locktype = 'advisory' and objid = ${one}
          and database = (select oid from pg_database where datname = current_database())`.execute(world.source)
        return rows.length === 0 ? true : undefined
      })
    },
  })
  t.match(report.stayed, [{ shard: one, reason: /had waited \d+ ms, of 500 at most/ }])
  t.same(report.moved.map(({ shard }) => shard), [two])
  t.equal(world.router.nodeOf(one).name, FIRST)
  await world.router.write(one, async () => {})
})

t.test('with the target away all stay at home, and nothing is announced any more', async (t) => {
  const world = await openMovingWorld(t)
  const shards = [shardOf(await world.person()), shardOf(await world.person())]
  const nodes = world.config.nodes.map((node) => (node.name === SECOND ? { ...node, url: 'postgres://127.0.0.1:1/none' } : node))
  const router = await openRouter<never>({ nodes, poolMax: 3, applicationName: 'test' }, world.log)
  t.teardown(() => router.close())
  const report = await moveShards({ ...world.movers, router: router as never, config: { nodes }, sleep: async () => {} }, { shards, to: SECOND })
  t.match(report.stayed, shards.map((shard) => ({ shard, reason: /ECONNREFUSED/ })))
  t.same(report.unfinished, [])
  t.same((await sql`select from shard_moves`.execute(world.source)).rows, [])
  t.same(await statesOf(world.source), {})
  for (const shard of shards) await world.router.write(shard, async () => {})
  await t.rejects(moveShards(world.movers, { shards, to: 'THIRD_URL' }), /There is no node THIRD_URL/)
  await moveShards(world.movers, { shards, to: SECOND })
  t.equal(world.router.nodeOf(shards[0] ?? 0).name, SECOND, 'later it works')
})

t.test('an account that is made while its shard moves is there', async (t) => {
  const world = await openMovingWorld(t)
  const shard = 17
  const id: Id = world.mint(shard)
  await moveShards(world.movers, { shards: [shard], to: SECOND }, {
    async step(step) {
      if (step !== 'copied') return
      await world.router.write(shard, (trx) =>
        trx.insertInto('accounts').values({ id, status: 'active', username: 'new', display_name: 'new', email: null, feed_floor: id }).execute())
    },
  })
  t.equal((await rowsOf(world.target, [shard])).accounts?.length, 1)
})
