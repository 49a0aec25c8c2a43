import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { addDelta, foldDeltas, readCounts, recountFollowers } from '#domain/counters/counters.queries.ts'
import type { Database, Db } from '#domain/database.ts'
import { checkNewNode } from '#domain/shards/check-node.ts'
import { moveShards } from '#domain/shards/move-shards.ts'
import { removeNode } from '#domain/shards/remove-node.ts'
import { sweepInvalidations } from '#platform/memcached/invalidations.ts'
import type { Cache } from '#platform/memcached/cache.ts'
import { listDeadLetters } from '#platform/outbox/dead-letters.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { eventually } from '../../support/eventually.ts'
import { FIRST, openMovingWorld, SECOND, type MovingWorld } from './moving-world.ts'

/** What a node has that no shard takes along goes to the others before it leaves. */

const NO_GRACE = { graceMs: 0, drainMs: 5_000 }

async function follow(world: MovingWorld, followerId: Id, followeeId: Id): Promise<void> {
  await world.follow(followerId, followeeId)
  await world.router.write(shardOf(followerId), (trx) => addDelta(trx, followeeId, 'followers', 1))
}

/** Moves the shards of these accounts to the first node, and maps all others there, which are empty. */
async function empty(world: MovingWorld, people: readonly Id[]): Promise<void> {
  const shards = people.map(shardOf)
  await moveShards(world.movers, { shards, to: FIRST })
  await sql`update shard_map set node = ${FIRST}`.execute(world.source)
  await world.router.refresh()
}

async function addLetter(db: Db, messageId: string, detail: string): Promise<void> {
  await sql`insert into dead_letters (message_id, queue, event, body, enqueued_at, attempts, cause, detail)
    values (${messageId}, 'thumbnail', 'photo.uploaded', '{"a": 1}', now(), 12, 'deadline', ${detail})`.execute(db)
}

async function addJob(db: Db): Promise<void> {
  await sql`insert into outbox (message_id, queue, event, body) values (${randomUUID()}, 'fanout', 'photo.published', '{}')`.execute(db)
}

t.test('counts, letters and cached profiles outlive the node that had them', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target } = world
  const [ada, bela, cleo] = [await world.person(), await world.person({ node: 1 }), await world.person({ node: 1 })]
  await follow(world, ada, bela)
  await follow(world, bela, ada)
  await foldDeltas(target)
  await follow(world, cleo, ada)
  await follow(world, cleo, bela)
  const counts = await readCounts(router, [ada, bela, cleo], ['followers'])
  t.same([...counts.values()], [{ followers: 2 }, { followers: 2 }, { followers: 0 }])
  const [kept, given] = [randomUUID(), randomUUID()]
  await addLetter(source, kept, 'copied by a command that was killed')
  await addLetter(target, kept, 'copied by a command that was killed')
  await addLetter(target, given, 'the second node’s')
  await sql`update cache_state set ring = 'a:1'`.execute(source)

  await t.rejects(removeNode(router, FIRST, NO_GRACE), /is the directory/)
  await t.rejects(removeNode(router, 'THIRD_URL', NO_GRACE), /no node THIRD_URL/)
  await t.rejects(removeNode(router, SECOND, NO_GRACE), /has 4096 shards: `move --from SECOND_URL --count 4096 --to …` first/)
  await empty(world, [bela, cleo])
  await t.rejects(removeNode(router, SECOND), /2 shards have left SECOND_URL less than 10 minutes ago/)

  await addJob(target)
  await t.rejects(removeNode(router, SECOND, { ...NO_GRACE, drainMs: 0 }), /1 jobs and cache invalidations still wait on SECOND_URL/)
  const forgotten: string[] = []
  const cache = { isEnabled: true, delete: async (keys: readonly string[]) => (forgotten.push(...keys), []) } as unknown as Cache
  /** The workers' part, while the command waits. */
  const sleep = async (): Promise<void> => {
    await sql`delete from outbox`.execute(target)
    await sql`update cache_invalidations set recorded_at = now() - interval '2 seconds'`.execute(target)
    await sweepInvalidations(target, cache)
  }
  t.same(await removeNode(router, SECOND, { ...NO_GRACE, sleep }), { counted: 2, letters: 2 })
  t.same(forgotten.toSorted(), [`profile:${ada}`, `profile:${bela}`].toSorted())
  t.same(await readCounts(router, [ada, bela, cleo], ['followers']), counts)
  t.same((await listDeadLetters(source, {}, { limit: 9 })).map(({ messageId }) => messageId), [given, kept])
  t.match((await listDeadLetters(source, {}, { limit: 1 }))[0], { queue: 'thumbnail', body: { a: 1 }, attempts: 12, cause: 'deadline', detail: 'the second node’s' })
  t.same(await removeNode(router, SECOND, NO_GRACE), { counted: 0, letters: 0 }, 'once more finds nothing')

  await t.test('without it everything is as it was', async (t) => {
    const nodes = world.config.nodes.filter(({ name }) => name === FIRST)
    const alone = await openRouter<Database>({ nodes, poolMax: 2, applicationName: 'remove-node test' }, world.log)
    t.teardown(() => alone.close())
    t.same(await readCounts(alone, [ada, bela, cleo], ['followers']), counts)
    t.same(await world.scroll(cleo), [])
  })

  await t.test('it may come back', async (t) => {
    const second = router.nodes[1]
    if (second === undefined) throw new Error('two nodes')
    // A database of a test begins as a directory.
    await sql`delete from shard_map`.execute(target)
    await checkNewNode(second)
    await moveShards(world.movers, { shards: [shardOf(bela)], to: SECOND })
    t.equal(router.nodeOf(shardOf(bela)), second)
    t.same(await readCounts(router, [ada, bela, cleo], ['followers']), counts)
  })
})

t.test('a move that is not finished keeps it', async (t) => {
  const world = await openMovingWorld(t)
  const person = await world.person()
  await empty(world, [])
  await sql`insert into shard_moves (shard, source, target) values (${shardOf(person)}, ${FIRST}, ${SECOND})`.execute(world.source)
  await t.rejects(removeNode(world.router, SECOND, NO_GRACE), /1 moves of shards are not finished: `resume` first/)
})

t.test('it ends when others may move shards meanwhile', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source, target } = world
  const [star, fan] = [await world.person(), await world.person({ node: 1 })]
  await follow(world, fan, star)
  await empty(world, [fan])
  await addJob(target)
  const sleep = async (): Promise<void> => {
    await sql`delete from outbox`.execute(target)
    await sql`select pg_terminate_backend(pid) from pg_locks join pg_database d on d.oid = database
      where datname = current_database() and locktype = 'advisory'`.execute(source)
  }
  await t.rejects(removeNode(router, SECOND, { ...NO_GRACE, sleep }))
  t.match((await sql`select sum(delta)::int as kept from counter_deltas where subject_id = ${star} and kind = 'followers'`.execute(target)).rows, [{ kept: 1 }])
  t.same(await removeNode(router, SECOND, NO_GRACE), { counted: 1, letters: 0 })
  t.same([...(await readCounts(router, [star], ['followers'])).values()], [{ followers: 1 }])
})

t.test('a count that deltas were folded into meanwhile is not overwritten', async (t) => {
  const world = await openMovingWorld(t)
  const { router, source } = world
  const [star, fan] = [await world.person(), await world.person()]
  await follow(world, fan, star)
  const followers = async (): Promise<unknown> => (await readCounts(router, [star], ['followers'])).get(star)

  const folding = await source.startTransaction().execute()
  await foldDeltas(folding)
  const recount = recountFollowers(source, [star])
  await eventually('the recount waits for the fold', async () => {
    const { rows } = await sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(source)
    return rows.length > 0 ? true : undefined
  })
  await folding.commit().execute()
  await t.rejects(recount, { code: '40001' })
  t.same(await followers(), { followers: 1 })

  await sql`update counters set total = 7 where subject_id = ${star}`.execute(source)
  await follow(world, await world.person(), star)
  await recountFollowers(source, [star])
  t.same(await followers(), { followers: 2 })
})
