import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Shard } from '#kernel/snowflake.ts'
import type { Db } from '#domain/database.ts'
import { callOffMoves, moveShards } from '#domain/shards/move-shards.ts'
import { ADVISORY_LOCKS } from '#platform/postgres/advisory-locks.ts'
import { readMoves } from '#platform/postgres/shard-moves/announcements.ts'
import { furnish, openMovingWorld, rowsOf, SECOND, statesOf } from './moving-world.ts'

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
