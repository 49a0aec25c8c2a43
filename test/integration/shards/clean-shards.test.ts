import t from 'tap'
import { shardOf } from '#kernel/snowflake.ts'
import { cleanShards } from '#domain/shards/clean-shards.ts'
import { readCounts } from '#domain/counters/counters.queries.ts'
import { callOffMoves, moveShards } from '#domain/shards/move-shards.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { delivery, followBody } from '../feed/feed-world.ts'
import { furnish, openMovingWorld, rowsOf, SECOND, statesOf } from './moving-world.ts'

const NO_GRACE_MS = 0

t.test('what a shard has left is deleted, later, and nothing else', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target } = world
  const [goes, stays] = [await world.person(), await world.person()]
  for (const [id, name] of [[goes, 'goes'], [stays, 'stays']] as const) await furnish(world, id, name)
  await world.publish(stays)
  await world.follow(goes, stays)
  await backfillFeed(world).handle(followBody(goes, stays), delivery())
  // Where the follow was made, whatever becomes of either account.
  await router.write(shardOf(goes), (trx) => trx.insertInto('counter_deltas').values({ subject_id: goes, kind: 'followers', delta: 1 }).execute())
  const shard = shardOf(goes)
  await moveShards(world.movers, { shards: [shard], to: SECOND })
  const [moved, kept] = [await rowsOf(target, [shard]), await rowsOf(source, [shardOf(stays)])]

  t.same(await cleanShards(router), { shards: 0, rest: 0 }, 'not yet')
  t.same(await cleanShards(router, NO_GRACE_MS), { shards: 1, rest: 0 })
  t.same(Object.values(await rowsOf(source, [shard])).flat(), [])
  t.same(await source.selectFrom('feed_entries').selectAll().where('account_id', '=', goes).execute(), [])
  t.same([await rowsOf(target, [shard]), await rowsOf(source, [shardOf(stays)])], [moved, kept])
  t.same((await readCounts(router, [goes], ['followers'])).get(goes), { followers: 1 })
  t.same(await statesOf(source), { [shard]: 'gone' }, 'who has not heard of it is still refused')
  t.same(await cleanShards(router, NO_GRACE_MS), { shards: 0, rest: 0 })
})

t.test('a copy whose move was called off is deleted, and one that goes on is not', async (t) => {
  const world = await openMovingWorld(t)
  const person = await world.person()
  await furnish(world, person, 'hesitant')
  const shard = shardOf(person)
  const before = await rowsOf(world.source, [shard])
  await moveShards(world.movers, { shards: [shard], to: SECOND, maxPauseMs: 1 }, {
    async step(step) {
      if (step === 'copied') t.same(await cleanShards(world.router, NO_GRACE_MS), { shards: 0, rest: 0 })
    },
  })
  t.same(await statesOf(world.target), { [shard]: 'arriving' }, 'it was not to be had within a millisecond')
  await callOffMoves(world.movers)
  t.same(await cleanShards(world.router, NO_GRACE_MS), { shards: 1, rest: 0 })
  t.same(Object.values(await rowsOf(world.target, [shard])).flat(), [])
  t.same(await rowsOf(world.source, [shard]), before)
  await moveShards(world.movers, { shards: [shard], to: SECOND })
  t.same(await rowsOf(world.target, [shard]), before)
})
