import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Shard } from '#kernel/snowflake.ts'
import type { Db } from '#domain/database.ts'
import { cleanShards } from '#domain/shards/clean-shards.ts'
import { callOffMoves, moveShards } from '#domain/shards/move-shards.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { announceMoves, findForgottenMoves, readMoves } from '#platform/postgres/shard-moves/announcements.ts'
import { FIRST, furnish, openMovingWorld, rowsOf, SECOND, statesOf } from './moving-world.ts'

/** A departure whose COMMIT nobody has answered: its row is not to be seen, and its lock is held. */
async function departInDoubt(source: Db, shard: Shard): Promise<{ commit(): Promise<unknown> }> {
  const [move] = (await readMoves(source)).filter((announced) => announced.shard === shard)
  if (move === undefined) throw new Error(`shard ${shard} is not announced`)
  const trx = await source.startTransaction().execute()
  await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.door}, ${shard})`.execute(trx)
  await sql`insert into shard_state (shard, state, peer, move_id)
    values (${shard}, 'departed', ${move.target}, ${move.moveId})`.execute(trx)
  return { commit: () => trx.commit().execute() }
}

t.test('a shard whose departure is in doubt stays announced, and the next command moves it on', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target, movers } = world
  const person = await world.person()
  await furnish(world, person, 'doubtful')
  const shard = shardOf(person)
  const rows = await rowsOf(source, [shard])
  let departure: Awaited<ReturnType<typeof departInDoubt>> | undefined
  const report = await moveShards(movers, { shards: [shard], to: SECOND }, {
    async step(step) {
      if (step !== 'copied') return
      departure = await departInDoubt(source, shard)
      throw new Error('no answer to COMMIT')
    },
  })
  t.match(report, { moved: [], stayed: [], unfinished: [{ shard, reason: 'no answer to COMMIT' }] })
  t.match(await callOffMoves(movers), { stayed: [], unfinished: [{ shard, reason: /lock timeout/ }] })
  t.equal((await readMoves(source)).length, 1, 'it is still announced')

  await departure?.commit()
  t.match(await moveShards(movers, { shards: [], to: SECOND }), { stayed: [], unfinished: [] })
  t.equal(router.nodeOf(shard).name, SECOND)
  t.same(await rowsOf(target, [shard]), rows)
  t.same(await readMoves(source), [])
  t.same(await statesOf(target), {})
  await router.write(shard, async () => {})
})

t.test('a departed shard that the directory has forgotten is found on its node, and arrives', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target, movers } = world
  const person = await world.person()
  await furnish(world, person, 'forgotten')
  const [shard, other] = [shardOf(person), shardOf(await world.person())]
  const rows = await rowsOf(source, [shard])
  await moveShards(movers, { shards: [shard], to: SECOND }, {
    async step(step) {
      if (step !== 'copied') return
      const departure = await departInDoubt(source, shard)
      await sql`delete from shard_moves`.execute(source)
      await departure.commit()
      throw new Error('the directory has failed over')
    },
  })
  t.same([await statesOf(source), await statesOf(target)], [{ [shard]: 'departed' }, { [shard]: 'arriving' }])
  t.match(await findForgottenMoves(source, router.directory), [{ shard, source: FIRST, target: SECOND }])
  t.same(await cleanShards(router, 0), { shards: 0, rest: 0 }, 'what has come there is not deleted')
  await t.rejects(router.write(shard, async () => {}), /not at home/)
  // Somebody tries in vain to move it as if it were at home; all the better.
  await announceMoves(source, [shard], SECOND)

  const report = await moveShards(movers, { shards: [other], to: SECOND })
  t.same([report.stayed, report.unfinished], [[], []])
  t.same(report.moved.map((moved) => moved.shard).toSorted((a, b) => a - b), [shard, other].toSorted((a, b) => a - b))
  t.equal(router.nodeOf(shard).name, SECOND)
  t.same(await rowsOf(target, [shard]), rows)
  t.same([await readMoves(source), await statesOf(target)], [[], {}])
  t.same(await findForgottenMoves(source, router.directory), [])
  await router.write(shard, async () => {})
})
