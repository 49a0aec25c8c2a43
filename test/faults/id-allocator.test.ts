import t, { type Test } from 'tap'
import { LEASE_MS } from '#platform/id-lease/ledger.ts'
import { createTestDatabase } from '../support/database.ts'
import { eventually } from '../support/eventually.ts'
import { startFaultProxy } from '../support/fault-proxy.ts'
import { startTestBroker } from '../support/rabbitmq.ts'
import { runSql } from '../support/tier-server.ts'
import { startTestTier } from '../support/tier.ts'
import { startMintingWorld, type MintingWorld } from './minting-world.ts'

/** Row 16 of the faults, with processes that are really killed and stopped, and a directory that really fails over. */

/** How much faster time passes than it does: a lease of a minute ends in six seconds. */
const RATE = 10
const HOUR_MS = 3_600_000
/** In which a process that is cut off and out of its lease must have said so. */
const REFUSAL_MS_MAX = 20_000
/** A little more than from one renewal to the next. */
const RENEWED_MS = LEASE_MS * 0.6

t.test('allocators are killed, two at once, over RabbitMQ', async (t) => {
  const { url } = await createTestDatabase(t)
  const broker = await (await startTestBroker(t)).vhost()
  const world = await startMintingWorld(t, url, { brokerUrl: broker.url, rate: RATE })
  const first = await world.start({ name: 'first', role: 'allocator' })
  const second = await world.start({ name: 'second', role: 'allocator' })
  const minters = await Promise.all([8, 8, 3].map((laneWidth, i) => world.start({ name: `minter_${i}`, laneWidth })))
  const goOn = async (): Promise<void> => world.mintedAt((await world.nowMs()) + RENEWED_MS, ...minters)
  await goOn()
  await first.kill()
  await goOn()
  await second.kill()
  await goOn()
  await world.start({ name: 'third', role: 'allocator' })
  minters.push(await world.start({ name: 'late' }))
  await goOn()
  assertNoDouble(t, world)
})

t.test('holders are paused past the end of their leases, lanes change their width, and the clock steps', async (t) => {
  const { url } = await createTestDatabase(t)
  const world = await startMintingWorld(t, url, { rate: RATE })
  const proxy = await startFaultProxy(t, portOf(url))
  const cut = new URL(url)
  cut.port = String(proxy.port)
  const paused = await world.start({ name: 'paused', databaseUrl: cut.href })
  const steady = await world.start({ name: 'steady' })
  paused.signal('SIGSTOP')
  const [lease] = await runSql<{ until: number; sequences: string }>(url, `select upper(period)::float8 as until, sequences::text
    from id_leases where holder = 'paused'`)
  await world.mintedAt((lease?.until ?? 0) + 1_000, steady)
  const heir = await world.start({ name: 'heir' })
  const [inherited] = await runSql<{ sequences: string }>(url, `select sequences::text from id_leases where holder = 'heir'`)
  t.equal(inherited?.sequences, lease?.sequences, 'its lane is another process’s')
  // It cannot reach the ledger at first, so it has nothing but what it held.
  proxy.set({ kind: 'refuse' })
  paused.signal('SIGCONT')
  await eventually('a refusal', () => Promise.resolve(paused.refusals.length > 0 ? true : undefined), REFUSAL_MS_MAX)
  t.match(paused.refusals[0], /^503 ids_unavailable/)
  proxy.set({ kind: 'none' })
  const minters = [paused, steady, heir]
  const goOn = async (): Promise<void> => world.mintedAt((await world.nowMs()) + RENEWED_MS, ...minters)
  await goOn()

  await steady.kill()
  minters.splice(1, 1)
  minters.push(await world.start({ name: 'narrow', laneWidth: 1 }), await world.start({ name: 'wide', laneWidth: 64 }))
  await goOn()
  for (const ms of [-5_000, HOUR_MS, -HOUR_MS]) {
    await world.step(ms)
    await goOn()
  }
  assertNoDouble(t, world)
})

t.test('the directory fails over to a standby that has lost grants, and whose clock is behind', async (t) => {
  const tier = await startTestTier(t, { replicasOfEach: 1 })
  const [{ primary, replicas: [standby] } = { primary: undefined, replicas: [] }] = tier.nodes
  if (primary === undefined || standby === undefined) throw new Error('there is one of each')
  const proxy = await startFaultProxy(t, portOf(primary.url))
  const moving = new URL(primary.url)
  moving.port = String(proxy.port)
  const world = await startMintingWorld(t, moving.href)
  const known = await world.start({ name: 'known' })
  await standby.caughtUp()
  await standby.stop()
  const lost = await world.start({ name: 'lost' })

  await primary.kill()
  await standby.start()
  await standby.promote()
  t.same(await runSql(standby.url, 'select holder from id_leases order by 1'), [{ holder: 'known' }], 'a grant is lost')
  await runSql(standby.url, `update fast_time set id_ms = id_ms - 5000`)
  proxy.point(portOf(standby.url))

  const newcomer = await world.start({ name: 'newcomer' })
  await eventually('a refusal', () => Promise.resolve(newcomer.refusals.length > 0 ? true : undefined))
  t.match(newcomer.refusals[0], /^503 ids_unavailable: .*has not begun/)
  t.equal(newcomer.ids.length, 0)
  await world.setRate(RATE)
  await world.mintedAt((await world.nowMs()) + 2 * LEASE_MS, known, lost, newcomer)
  assertNoDouble(t, world)
})

function assertNoDouble(t: Test, world: MintingWorld): void {
  const { count, double } = world.outcome()
  t.ok(count > 10_000, `${count} ids`)
  t.equal(double, undefined, 'none twice')
}

function portOf(url: string): number {
  return Number(new URL(url).port)
}
