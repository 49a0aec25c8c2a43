import { sql } from 'kysely'
import t from 'tap'
import { shardOf } from '#kernel/snowflake.ts'
import { callOffMoves, moveShards } from '#domain/shards/move-shards.ts'
import { killAt } from './kill-mover.ts'
import { furnish, openMovingWorld, rowsOf, SECOND, statesOf } from './moving-world.ts'

t.test('a mover that is killed at any step leaves all as it is, and the next one goes on', async (t) => {
  const world = await openMovingWorld(t)
  for (const step of ['announced', 'expected', 'copied', 'locked', 'verified', 'departed', 'arrived']) {
    await t.test(step, async (t) => {
      const person = await world.person()
      await furnish(world, person, `of ${step}`)
      const shard = shardOf(person)
      await killAt(world, shard, step)
      await world.router.refresh()
      const write = (bio: string): Promise<unknown> =>
        world.router.write(shard, (trx) => trx.updateTable('accounts').set({ bio }).where('id', '=', person).execute())
      // Nobody moves it on, and yet it is written and read: where it is, or where it was on its way to.
      await write('while nobody moves it')
      const hasLeft = ['departed', 'arrived'].includes(step)
      t.equal(world.router.nodeOf(shard).name, hasLeft ? SECOND : 'DATABASE_URL')
      const rows = await rowsOf(hasLeft ? world.target : world.source, [shard])

      const report = await moveShards(world.movers, { shards: [], to: SECOND })
      t.same([report.stayed, report.unfinished], [[], []])
      t.equal(world.router.nodeOf(shard).name, SECOND)
      t.same(await rowsOf(world.target, [shard]), rows)
      t.notOk((await statesOf(world.target))[shard])
      await write('and after it')
      t.same((await sql`select from shard_moves`.execute(world.source)).rows, [])
    })
  }
})

t.test('what a killed mover has begun can be called off', async (t) => {
  const world = await openMovingWorld(t)
  const [stays, goes] = [shardOf(await world.person()), shardOf(await world.person())]
  await killAt(world, stays, 'copied')
  t.same(await callOffMoves(world.movers), { stayed: [{ shard: stays, reason: 'called off' }], arrived: [], unfinished: [] })
  await killAt(world, goes, 'departed')
  t.same(await callOffMoves(world.movers), { stayed: [], arrived: [goes], unfinished: [] }, 'too late: it arrives')
  await world.router.refresh()
  t.same([stays, goes].map((shard) => world.router.nodeOf(shard).name), ['DATABASE_URL', SECOND])
  t.same((await sql`select from shard_moves`.execute(world.source)).rows, [])
  t.same(await statesOf(world.target), { [stays]: 'arriving' }, 'for whoever cleans')
})
