import { sql } from 'kysely'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { Shard } from '#kernel/snowflake.ts'
import { loadNodes } from '#platform/config/config.ts'
import type { ReadTarget } from '#platform/postgres/replica-metrics.ts'
import type { Reader } from '#platform/postgres/reader.ts'
import { openRouter, type Router } from '#platform/postgres/router.ts'
import { readFlushedPosition, type WalPosition } from '#platform/postgres/wal-position.ts'
import { eventually } from '../../support/eventually.ts'
import type { TestStandby } from '../../support/tier-server.ts'
import { startTestTier, type TierNode } from '../../support/tier.ts'

/** Replicas are read only by whom they are far enough for, and only while they follow their primary closely. */

const SHARD: Shard = 0
const LAG_MS_MAX = 3_000

interface Example {
  example: { n: number }
}

interface World {
  readonly router: Router<Example>
  readonly node: TierNode
  readonly replicas: readonly [TestStandby, TestStandby]
  readonly counts: Record<ReadTarget, number>
  /** Adds one to the example, and gives where the log ended then. */
  write(): Promise<WalPosition>
}

async function openWorld(t: Test, displacedReadsMax = 100): Promise<World> {
  const tier = await startTestTier(t, { replicasOfEach: 2 })
  const [node] = tier.nodes
  const [one, two] = node?.replicas ?? []
  if (node === undefined || one === undefined || two === undefined) throw new Error('there are two replicas')
  await node.primary.sql('create table example as select 0 as n')
  await node.primary.sql('grant all on example to monogram')
  await Promise.all([one.caughtUp(), two.caughtUp()])
  const counts = { replica: 0, primary: 0, displaced: 0, shed: 0 }
  const metrics = { read: (_node: string, target: ReadTarget) => counts[target]++, replica: () => {} }
  const router = await openRouter<Example>(
    {
      nodes: loadNodes(tier.env),
      poolMax: 4,
      applicationName: 'test',
      replicas: { lagMsMax: LAG_MS_MAX, displacedReadsMax, metrics },
    },
    pino({ level: 'silent' }),
  )
  t.teardown(() => router.close())
  return {
    router,
    node,
    replicas: [one, two],
    counts,
    async write() {
      await router.write(SHARD, (trx) => trx.updateTable('example').set({ n: sql`n + 1` }).execute())
      return readFlushedPosition(router.directory.primary)
    },
  }
}

const ANYBODY: Reader<Example> = { reach: null }

function reaching(...positions: readonly WalPosition[]): Reader<Example> {
  return { reach: () => Promise.resolve(new Map(positions.map(({ history, lsn }) => [history, lsn]))) }
}

/** What a reader finds, and on which kind of server. */
async function read(router: Router<Example>): Promise<{ n: number; on: 'replica' | 'primary' }> {
  const { rows } = await router.read(SHARD, (db) =>
    sql<{ n: number; replays: boolean }>`select n, pg_is_in_recovery() as replays from example`.execute(db),
  )
  return { n: rows[0]?.n ?? -1, on: rows[0]?.replays === true ? 'replica' : 'primary' }
}

async function standing(world: World, replica: TestStandby, wanted: string): Promise<void> {
  await eventually(`${replica.name} is ${wanted}`, async () => {
    const found = world.router.directory.replicas?.replicas.find(({ name }) => name === replica.name)
    return found?.standing === wanted ? true : undefined
  })
}

t.test('replicas by LSN', async (t) => {
  const world = await openWorld(t)
  const { router, counts, replicas: [one, two] } = world

  await t.test('a router reads primaries, unless it is made for a reader', async (t) => {
    t.equal((await read(router)).on, 'primary')
    t.equal((await read(router.forReader(ANYBODY))).on, 'replica')
    t.equal((await read(router.forReader(ANYBODY).primaries)).on, 'primary')
    t.equal(router.hasReplicas, true)
  })

  await t.test('absence is never permission', async (t) => {
    const unplaced: string[] = []
    const reader = router.forReader({ ...reaching(), onUnplaced: ({ name }) => unplaced.push(name) })
    t.equal((await read(reader)).on, 'primary')
    t.same(unplaced, ['DATABASE_URL'])
    const { history, lsn } = await world.write()
    t.equal((await read(router.forReader(reaching({ history: `${history}1`, lsn: 0n })))).on, 'primary', 'another history')
    t.equal((await read(router.forReader(reaching({ history, lsn: lsn + 0x1000_0000n })))).on, 'primary', 'too far')
  })

  await t.test('a replica serves whoever it is far enough for, and nobody else', async (t) => {
    const before = await readFlushedPosition(router.directory.primary)
    await Promise.all([one.caughtUp(), two.caughtUp()])
    await eventually('replicas are known to have that', async () =>
      (await read(router.forReader(reaching(before)))).on === 'replica' ? true : undefined)
    await Promise.all([one.pauseReplay(), two.pauseReplay()])
    const after = await world.write()
    const { n } = await read(router)
    t.same(await read(router.forReader(reaching(after))), { n, on: 'primary' })
    t.same(await read(router.forReader(reaching(before))), { n: n - 1, on: 'replica' }, 'it really is behind')
    t.same(await read(router.forReader(reaching(before)).notBefore(SHARD, after)), { n, on: 'primary' })
    t.same(await read(router.forReader(ANYBODY).notBefore(SHARD, null)), { n, on: 'primary' })

    await two.resumeReplay()
    await two.caughtUp()
    await eventually('the other one has it', async () =>
      (await read(router.forReader(reaching(after)))).on === 'replica' ? true : undefined)
    t.same(await read(router.forReader(reaching(after))), { n, on: 'replica' })
    await one.resumeReplay()
  })

  await t.test('a reader that was on the primary stays there, and does not go back in time', async (t) => {
    await Promise.all([one.caughtUp(), two.caughtUp()])
    const reader = router.forReader(ANYBODY)
    t.equal((await read(reader.notBefore(SHARD, null))).on, 'primary')
    t.equal((await read(reader)).on, 'primary')
  })

  await t.test('the one with fewer reads under way is taken, and then the one that is further', async (t) => {
    const set = router.directory.replicas
    const first = set?.choose({ scope: 'some shards', lsn: null })
    const held = Promise.withResolvers<undefined>()
    const reading = first?.run(() => held.promise)
    t.not(set?.choose({ scope: 'some shards', lsn: null })?.name, first?.name)
    held.resolve(undefined)
    await reading
    await one.pauseReplay()
    await world.write()
    await two.caughtUp()
    await eventually('it is seen to be behind', async () => (set?.choose({ scope: 'some shards', lsn: null })?.name === two.name ? true : undefined))
    await one.resumeReplay()
  })

  await t.test('one whose connections are all at work is not taken for one that is down', async (t) => {
    const set = router.directory.replicas
    await two.pauseReplay()
    await world.write()
    await standing(world, two, 'behind')
    const slow = Array.from({ length: 8 }, () =>
      router.forReader(ANYBODY).read(SHARD, async (db) => {
        const { rows } = await sql<{ replays: boolean }>`select pg_is_in_recovery() as replays from pg_sleep(2)`.execute(db)
        return rows[0]?.replays
      }))
    t.same(await Promise.all(slow), Array(8).fill(true), 'each waits for its turn')
    t.equal(set?.replicas.find(({ name }) => name === one.name)?.standing, 'in rotation')
    await two.resumeReplay()
    await standing(world, two, 'in rotation')
  })

  await t.test('a read that fails on a replica is run again on the primary', async (t) => {
    const answer = await router.forReader(ANYBODY).read(SHARD, async (db) => {
      const { rows } = await sql<{ replays: boolean }>`select pg_is_in_recovery() as replays`.execute(db)
      if (rows[0]?.replays === true) throw new Error('canceling statement due to conflict with recovery')
      return 'primary'
    })
    t.equal(answer, 'primary')
    t.equal((await read(router.forReader(ANYBODY))).on, 'replica', 'which stays in rotation')
  })

  await t.test('after a shard has come to its node, a replica is read once it has that', async (t) => {
    await Promise.all([one.caughtUp(), two.caughtUp()])
    await Promise.all([one.pauseReplay(), two.pauseReplay()])
    const { n } = await read(router)
    await world.write()
    t.same(await read(router.forReader(ANYBODY)), { n, on: 'replica' })
    const map = async (shard: Shard, name: string): Promise<void> => {
      // Whoever has not looked for long trusts no replica, as a shard may have gone and come back.
      await router.refresh()
      await sql`with mapped as (update shard_map set node = ${name} where shard = ${shard})
        update shard_map_version set version = version + 1`.execute(router.directory.primary)
      await router.refresh()
    }
    const whole = async (): Promise<boolean> =>
      (await router.forReader(ANYBODY).readNodes((db) => sql<{ replays: boolean }>`select pg_is_in_recovery() as replays`.execute(db)))
        .every(({ rows }) => rows[0]?.replays)
    t.equal(await whole(), true)
    await map(5, 'OTHER_URL')
    t.same(await read(router.forReader(ANYBODY)), { n, on: 'replica' }, 'one that goes takes nothing away from the others')
    t.equal(await whole(), false, 'but a replica would still count it in')
    await map(5, 'DATABASE_URL')
    const { displaced } = counts
    t.same(await read(router.forReader(ANYBODY)), { n: n + 1, on: 'primary' })
    t.equal(counts.displaced, displaced + 1, 'which takes so many over as when there is none')
    await Promise.all([one.resumeReplay(), two.resumeReplay()])
    await eventually('replicas are read again', async () =>
      (await read(router.forReader(ANYBODY))).on === 'replica' ? true : undefined)
  })

  await t.test('a shard on the move is read on the primary', async (t) => {
    const announce = `with moved as (insert into shard_moves (shard, move_id, source, target) values (${SHARD}, gen_random_uuid(), 'DATABASE_URL', 'x'))
      update shard_map_version set version = version + 1`
    await sql.raw(announce).execute(router.directory.primary)
    await router.refresh()
    await eventually('replicas have all of that', async () => {
      const other = await router.forReader(ANYBODY).read(1, (db) => sql<{ replays: boolean }>`select pg_is_in_recovery() as replays`.execute(db))
      return other.rows[0]?.replays === true ? true : undefined
    })
    t.equal((await read(router.forReader(ANYBODY))).on, 'primary')
    await sql`with ended as (delete from shard_moves) update shard_map_version set version = version + 1`.execute(router.directory.primary)
    await router.refresh()
  })

  await t.test('one that replays nothing leaves rotation, and returns by itself', async () => {
    await one.pauseReplay()
    await world.write()
    await standing(world, one, 'behind')
    await standing(world, two, 'in rotation')
    await one.resumeReplay()
    await standing(world, one, 'in rotation')
  })

  await t.test('reads under way on a replica that stands still are given up, and run on the primary', async (t) => {
    const stopped = await two.pid()
    if (stopped === undefined) throw new Error('it runs')
    await one.pauseReplay()
    await world.write()
    await standing(world, one, 'behind')
    const servers = await two.sql<{ pid: number }>('select pid from pg_stat_activity where pid <> pg_backend_pid()')
    const pids = [stopped, ...servers.map(({ pid }) => pid)]
    for (const pid of pids) process.kill(pid, 'SIGSTOP')
    const answer = await read(router.forReader(ANYBODY))
    t.equal(answer.on, 'primary')
    for (const pid of pids) process.kill(pid, 'SIGCONT')
    await one.resumeReplay()
    await Promise.all([standing(world, one, 'in rotation'), standing(world, two, 'in rotation')])
  })

  await t.test('one that is gone leaves rotation, and returns by itself', async (t) => {
    await one.kill()
    await standing(world, one, 'down')
    t.equal((await read(router.forReader(ANYBODY))).on, 'replica')
    await one.start()
    await standing(world, one, 'in rotation')
  })

  await t.test('one that was promoted is no replica, and what was said of the log before opens none', async (t) => {
    await Promise.all([one.caughtUp(), two.caughtUp()])
    const position = await readFlushedPosition(router.directory.primary)
    await one.promote()
    await standing(world, one, 'promoted')
    await standing(world, two, 'in rotation')

    // The node's URL leads to the new primary now, and the other replica still follows the old one.
    const next = await openRouter<Example>(
      {
        nodes: [{ name: 'DATABASE_URL', url: one.url, replicas: [{ name: two.name, url: two.url }] }],
        poolMax: 2,
        applicationName: 'test',
        replicas: { lagMsMax: LAG_MS_MAX, displacedReadsMax: 10 },
      },
      pino({ level: 'silent' }),
    )
    const { history } = await readFlushedPosition(next.directory.primary)
    t.match([position.history, history], [/\/1$/, /\/2$/])
    t.equal(next.directory.replicas?.replicas[0]?.standing, 'astray')
    t.equal((await read(next.forReader(ANYBODY))).on, 'primary')
    t.equal((await read(next.forReader(reaching(position)))).on, 'primary')
    await next.close()
  })
})

t.test('when all replicas are gone the primary takes so much over, and no more', async (t) => {
  const world = await openWorld(t, 2)
  const { router, counts, replicas: [one, two] } = world
  await Promise.all([one.kill(), two.kill()])
  await Promise.all([standing(world, one, 'down'), standing(world, two, 'down')])
  const held = Promise.withResolvers<undefined>()
  const readAndHold = (): Promise<unknown> => router.forReader(ANYBODY).read(SHARD, () => held.promise)
  const waiting = [readAndHold(), readAndHold()]
  await t.rejects(read(router.forReader(ANYBODY)), { code: 'unavailable', retryAfterSeconds: 1 })
  t.equal(counts.shed, 1)
  t.equal((await read(router.forReader(reaching()))).on, 'primary', 'what was never a replica’s is not counted')
  held.resolve(undefined)
  await Promise.all(waiting)
  t.equal((await read(router.forReader(ANYBODY))).on, 'primary')
  t.equal(counts.displaced, 3)
  await Promise.all([one.start(), two.start()])
  await Promise.all([standing(world, one, 'in rotation'), standing(world, two, 'in rotation')])
  t.equal((await read(router.forReader(ANYBODY))).on, 'replica')
})
