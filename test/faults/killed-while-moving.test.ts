import t, { type Test } from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { SHARD_COUNT, shardOf, type Id, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter, Database } from '#domain/database.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { moveShards, type MoveContext } from '#domain/shards/move-shards.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import type { MoveStep } from '#platform/postgres/shard-moves/move-shard.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startMonogram } from '../support/monogram.ts'
import { openNodes } from '../support/open-database.ts'
import { startTestTier, type TierNode } from '../support/tier.ts'
import { assertOutcome, startLoad } from './people-load.ts'
import { peopledShards } from '../support/peopled-shards.ts'

/**
 * Under load, at each step of a move one of two web processes is killed -9 and started again: the move goes on, and nothing
 * is lost. Then it is the node that a shard goes to, twice: whoever is on the other one is served, the move is taken up again, and
 * nothing is lost either.
 */
const STEPS: readonly MoveStep[] = ['expected', 'copied', 'locked', 'verified', 'departed', 'arrived']

t.test('a web process, and a node, is killed at a step of a move', async (t) => {
  const tier = await startTestTier(t, { nodes: 2, ownServers: true })
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

  const witnesses = await signUpUntil(api, movers.router, home)
  const [witness] = witnesses.slice(-1)
  if (witness === undefined) throw new Error('there is one')
  const photo = await api.upload(witness, await makePicture({ seed: 2, width: 240, height: 180 }))
  let caption = ''
  const shard = (await shardsFrom(movers.router, home, SHARD_COUNT)).find((other) => other !== shardOf(idOf(witness)))
  if (shard === undefined) throw new Error('no other shard is there')
  for (const fatal of ['copied', 'departed'] as const) {
    await t.test(`the target is killed when a shard has ${fatal}`, async (t) => {
      const { promise: isKilled, resolve: killed } = Promise.withResolvers<undefined>()
      const cut = moveShards(movers, { shards: [shard], to: away.name }, {
        async step(step) {
          if (step !== fatal) return
          await away.primary.kill()
          killed(undefined)
        },
      })
      await Promise.race([isKilled, load.failed])
      caption = `edited while ${away.name} was away, after ${fatal}`
      for (const one of monogram.urls.map((url) => apiClient([url]))) {
        await one.ok('PATCH', `/v1/photos/${photo.id}`, { token: witness.token, json: { caption } })
        t.match(await one.ok<Photo>('GET', `/v1/photos/${photo.id}`, { token: witness.token }), { caption }, `${home.name} serves`)
      }
      const { moved, stayed, unfinished } = await Promise.race([cut, load.failed])
      t.same([moved, [...stayed, ...unfinished].map((left) => left.shard)], [[], [shard]], 'the command says that it is not done')
      await away.primary.start()
    })
  }
  const resumed = await Promise.race([moveShards(movers, { shards: [shard], to: away.name }), load.failed])
  t.same([resumed.stayed, resumed.unfinished], [[], []])
  t.equal(movers.router.nodeOf(shard).name, away.name)
  const before = load.written
  await Promise.race([load.failed, eventually('more is written', () => Promise.resolve(load.written > before ? true : undefined))])
  const { people, photos, captions } = await load.stop()

  await assertOutcome(t, { monogram, nodes: openNodes(t, tier), api }, {
    people: [...people, ...witnesses.map((person) => ({ person, follows: new Set<string>() }))],
    photos: [...photos, photo],
    captions: new Map([...captions, [photo.id, caption]]),
  })
})

/** Signs people up until one is on that node: the last of those that it gives. */
async function signUpUntil(api: ApiClient, router: AppRouter, node: TierNode): Promise<Person[]> {
  const others: Person[] = []
  for (;;) {
    const person = await api.signUp(`witness_${others.length}`)
    if (router.nodeOf(shardOf(idOf(person))).name === node.name) return [...others, person]
    others.push(person)
  }
}

function idOf({ account }: Person): Id {
  return BigInt(account.id) as Id
}

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
