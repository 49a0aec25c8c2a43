import t from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { packId, type Id, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter, Database, Trx } from '#domain/database.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { moveShards, type MoveContext, type MoveReport } from '#domain/shards/move-shards.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { startTestTier } from '../support/tier.ts'

/** A node that is killed while a shard moves to it or away from it: nothing is lost, and the next command goes on. */
t.test('a node is killed at a step of a move', async (t) => {
  const tier = await startTestTier(t, { nodes: 2, ownServers: true })
  const [first, second] = tier.nodes
  if (first === undefined || second === undefined) throw new Error('two nodes')
  const nodes = tier.nodes.map(({ name, primary }) => ({ name, url: primary.url }))
  const log = createLogger({ process: 'test', level: 'silent' })
  const onArrival = arriveNow
  const router: AppRouter = await openRouter<Database>({ nodes, poolMax: 3, applicationName: 'test', onArrival }, log)
  t.teardown(() => router.close())
  const movers: MoveContext = { router, config: { nodes }, clock: systemClock, log, sleep: () => router.refresh() }
  const write = (shard: Shard, bio: string): Promise<unknown> =>
    router.write(shard, (trx) => trx.updateTable('accounts').set({ bio }).where('id', '=', idOf(shard)).execute())
  const moveAndKill = (shard: Shard, to: string, fatal: string): Promise<MoveReport> =>
    moveShards(movers, { shards: [shard], to }, {
      async step(step) {
        if (step === fatal) await second.primary.kill()
      },
    })

  const bystander = 0
  for (const [index, [towards, fatal, outcome]] of ([
    ['it', 'expected', 'stayed'],
    ['it', 'copied', 'stayed'],
    ['it', 'departed', 'unfinished'],
    ['another', 'copied', 'unfinished'],
    ['another', 'verified', 'unfinished'],
  ] as const).entries()) {
    await t.test(`which shards move to ${towards}, after ${fatal}`, async (t) => {
      const [source, target] = towards === 'it' ? [first, second] : [second, first]
      const shard = router.nodeOf(index + 1).name === source.name ? index + 1 : 8_000 + index
      t.equal(router.nodeOf(shard).name, source.name)
      const id = idOf(shard)
      await router.write(shard, (trx) =>
        trx.insertInto('accounts').values({ id, status: 'active', username: `a${id}`, display_name: 'a', email: null, feed_floor: id }).execute())

      const report = await moveAndKill(shard, target.name, fatal)
      t.same(report[outcome].map((left) => left.shard), [shard], JSON.stringify(report))
      await router.write(bystander, async () => {})
      if (outcome === 'stayed') await write(shard, 'while the other node is away')
      await second.primary.start()
      await write(shard, 'when it is back')
      t.same((await moveShards(movers, { shards: [shard], to: target.name })).unfinished, [])
      t.equal(router.nodeOf(shard).name, target.name)
      t.match(await target.primary.sql('select bio from accounts where id = $1', [id]), [{ bio: 'when it is back' }])
    })
  }
})

function idOf(shard: Shard): Id {
  return packId({ ms: Date.UTC(2026, 5, 1), shard, sequence: 0 })
}

function arriveNow(trx: Trx, shard: Shard): Promise<void> {
  return arriveShard(trx, shard, systemClock.nowMs())
}
