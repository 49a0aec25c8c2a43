import t from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { packId, SHARD_COUNT, type Id, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter, Database, Trx } from '#domain/database.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { moveShards, type MoveContext, type MoveReport } from '#domain/shards/move-shards.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { readMoves } from '#platform/postgres/shard-moves/announcements.ts'
import { startTestTier, type TierNode } from '../support/tier.ts'

/**
 * A node is killed while a shard moves to it, away from it, or under its announcement as the directory, after each step:
 * the other nodes go on being written and read, nothing is lost, and when it is back the next command goes on.
 */
const STEPS = ['announced', 'expected', 'copied', 'locked', 'verified', 'departed', 'arrived'] as const

t.test('a node is killed at a step of a move', async (t) => {
  const tier = await startTestTier(t, { nodes: 3, ownServers: true })
  const [first, second, third] = tier.nodes
  if (first === undefined || second === undefined || third === undefined) throw new Error('three nodes')
  const nodes = tier.nodes.map(({ name, primary }) => ({ name, url: primary.url }))
  const log = createLogger({ process: 'test', level: 'silent' })
  const onArrival = arriveNow
  const router: AppRouter = await openRouter<Database>({ nodes, poolMax: 3, applicationName: 'test', onArrival }, log)
  t.teardown(() => router.close())
  // This router is the only one, so what is waited for is its look at the map; in vain while the directory is away.
  const movers: MoveContext = { router, config: { nodes }, clock: systemClock, log, sleep: () => router.refresh().catch(() => undefined) }
  /** The highest shard of a node, of those that nobody has taken. */
  const taken = new Set<Shard>()
  function shardOn(name: string): Shard {
    for (let shard = SHARD_COUNT - 1; shard >= 0; shard--) {
      if (taken.has(shard) || router.nodeOf(shard).name !== name) continue
      taken.add(shard)
      return shard
    }
    throw new Error(`${name} has no shard left`)
  }
  const bystanders = new Map(tier.nodes.map(({ name }) => [name, shardOn(name)]))
  const makeAccount = (shard: Shard): Promise<unknown> => router.write(shard, (trx) => {
    const id = idOf(shard)
    return trx.insertInto('accounts').values({ id, status: 'active', username: `a${id}`, display_name: 'a', email: null, feed_floor: id }).execute()
  })
  const write = (shard: Shard, bio: string): Promise<unknown> =>
    router.write(shard, (trx) => trx.updateTable('accounts').set({ bio }).where('id', '=', idOf(shard)).execute())
  const read = async (shard: Shard): Promise<string | undefined> =>
    (await router.read(shard, (db) => db.selectFrom('accounts').select('bio').where('id', '=', idOf(shard)).executeTakeFirst()))?.bio
  /** @returns undefined when the command itself was lost with the directory */
  const moveAndKill = (shard: Shard, to: string, fatal: string, victim: TierNode): Promise<MoveReport | undefined> => {
    let isDead = false
    const dieAt = async (step: string): Promise<void> => {
      if (step !== fatal || isDead) return
      isDead = true
      await victim.primary.kill()
    }
    const context = { ...movers, sleep: () => dieAt('announced').then(() => router.refresh()).catch(() => undefined) }
    return moveShards(context, { shards: [shard], to }, { step: dieAt }).catch((error: unknown) => {
      if (victim !== first) throw error
      return undefined
    })
  }

  for (const shard of bystanders.values()) await makeAccount(shard)
  for (const [role, source, target, victim] of [
    ['the source', second, third, second],
    ['the target', second, third, third],
    ['the directory', second, third, first],
    ['the source, which is the directory', first, second, first],
    ['the target, which is the directory', second, first, first],
  ] as const) {
    for (const fatal of STEPS) {
      await t.test(`${role}, after ${fatal}`, async (t) => {
        const shard = shardOn(source.name)
        await makeAccount(shard)
        await write(shard, 'before')

        const report = await moveAndKill(shard, target.name, fatal, victim)
        t.equal(await victim.primary.pid(), undefined, 'it is dead')
        for (const [name, other] of bystanders) {
          if (name === victim.name) continue
          const bio = `while ${victim.name} is away, ${fatal}`
          await write(other, bio)
          t.equal(await read(other), bio, `${name} serves`)
        }
        // Nobody asks the target between its last check and the departure.
        const hasLeft = fatal === 'departed' || fatal === 'arrived' || (fatal === 'verified' && role === 'the target')
        // What has not departed is where it was, whoever else is dead.
        const isAtHome = !hasLeft && victim !== source
        if (isAtHome) {
          await write(shard, 'meanwhile')
          t.equal(await read(shard), 'meanwhile')
        }
        // With the directory the command is lost; of a dead source it is not known what it did.
        const outcome = victim === first ? 'lost' : role === 'the source' || fatal !== 'arrived' && hasLeft ? 'unfinished' : hasLeft ? 'moved' : 'stayed'
        const told = { moved: 0, stayed: 0, unfinished: 0, ...(outcome !== 'lost' && { [outcome]: 1 }) }
        t.same(Object.entries(told).map(([list]) => report?.[list as 'moved'].length ?? 0), Object.values(told), JSON.stringify(report))

        await victim.primary.start()
        t.equal(await read(shard), isAtHome ? 'meanwhile' : 'before', 'nothing is lost')
        await write(shard, 'when it is back')
        const next = await moveShards(movers, { shards: [shard], to: target.name })
        t.same([next.stayed, next.unfinished], [[], []])
        t.equal(router.nodeOf(shard).name, target.name)
        t.match(await target.primary.sql('select bio from accounts where id = $1', [idOf(shard)]), [{ bio: 'when it is back' }])
        t.same(await readMoves(router.directory.primary), [])
        for (const { primary } of tier.nodes) {
          t.same(await primary.sql(`select shard from shard_state where state = 'arriving'`), [], 'nothing is on its way')
        }
      })
    }
  }
})

function idOf(shard: Shard): Id {
  return packId({ ms: Date.UTC(2026, 5, 1), shard, sequence: 0 })
}

function arriveNow(trx: Trx, shard: Shard): Promise<void> {
  return arriveShard(trx, shard, systemClock.nowMs())
}
