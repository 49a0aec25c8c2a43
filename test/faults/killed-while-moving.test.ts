import t, { type Test } from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter, Database } from '#domain/database.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { moveShards, type MoveContext } from '#domain/shards/move-shards.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import type { MoveStep } from '#platform/postgres/shard-moves/move-shard.ts'
import { apiClient } from '../support/api-client.ts'
import { startMonogram } from '../support/monogram.ts'
import { openNodes } from '../support/open-database.ts'
import { startTestTier, type TierNode } from '../support/tier.ts'
import { assertOutcome, startLoad } from './people-load.ts'
import { peopledShards } from '../support/peopled-shards.ts'

/** At each step of a move one of two web processes is killed -9 and started again: the move goes on, and nothing is lost. */
const STEPS: readonly MoveStep[] = ['expected', 'copied', 'locked', 'verified', 'departed', 'arrived']

t.test('a web process is killed at each step of a move', async (t) => {
  const tier = await startTestTier(t, { nodes: 2 })
  const [home, away] = tier.nodes
  if (home === undefined || away === undefined) throw new Error('two nodes')
  const monogram = await startMonogram(t, { tier, counts: { web: 2 } })
  const api = apiClient(monogram.urls)
  const load = await startLoad(api)
  const movers = await openMovers(t, tier.nodes)
  const webs = monogram.processes.web.map((web) => Promise.resolve(web))

  const chosen = await shardsFrom(movers.router, away, STEPS.length)
  const killed: MoveStep[] = []
  const move = moveShards(movers, { shards: chosen, to: home.name }, {
    async step(step, shard) {
      // One after the other: a shard's first step waits until both processes are up.
      if (step === 'expected') await Promise.all(webs)
      const number = chosen.indexOf(shard)
      if (STEPS[number] !== step) return
      const victim = await webs[number % webs.length]
      t.same(await victim?.kill('SIGKILL'), { code: null, signal: 'SIGKILL' }, step)
      webs[number % webs.length] = monogram.start('web', { PORT: String(victim?.port ?? 0) })
      killed.push(step)
    },
  })
  const report = await Promise.race([move, load.failed])
  t.same([report.stayed, report.unfinished], [[], []])
  t.same(killed.toSorted(), STEPS.toSorted())
  await Promise.all(webs)
  const outcome = await load.stop()

  await assertOutcome(t, { monogram, nodes: openNodes(t, tier), api }, outcome)
})

async function openMovers(t: Test, tierNodes: readonly TierNode[]): Promise<MoveContext> {
  const nodes = tierNodes.map(({ name, primary }) => ({ name, url: primary.url }))
  const log = createLogger({ process: 'test', level: 'silent' })
  const router: AppRouter = await openRouter<Database>(
    { nodes, poolMax: 3, applicationName: 'test', onArrival: (trx, shard) => arriveShard(trx, shard, systemClock.nowMs()) },
    log,
  )
  t.teardown(() => router.close())
  return { router, config: { nodes }, clock: systemClock, log }
}

/** Shards that are on a node, those with people's rows first. */
async function shardsFrom(router: AppRouter, node: TierNode, count: number): Promise<Shard[]> {
  const there = Array.from({ length: SHARD_COUNT }, (_, shard) => shard).filter((shard) => router.nodeOf(shard).name === node.name)
  return [...new Set([...(await peopledShards(node)), ...there])].slice(0, count)
}
