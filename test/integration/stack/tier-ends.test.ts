import pg from 'pg'
import t, { type Test } from 'tap'
import { allGone, startCommand } from '../../support/command.ts'
import { CHECKOUT } from '../../support/checkout-copy.ts'
import { startTestTier } from '../../support/tier.ts'

t.test('a connection that is left open fails the test, and everything is ended all the same', async (t) => {
  const cleanups: (() => Promise<void>)[] = []
  const leaky = { teardown: (cleanup: () => Promise<void>) => cleanups.unshift(cleanup) } as unknown as Test
  const tier = await startTestTier(leaky, { replicasOfEach: 1, pgbouncer: true })
  const pids = await Promise.all(tier.nodes.flatMap(({ primary, replicas }) => [primary.pid(), ...replicas.map(({ pid }) => pid())]))
  const client = new pg.Client({ connectionString: tier.env.DATABASE_URL_REPLICA_1 })
  client.on('error', () => undefined)
  await client.connect()
  await t.rejects(Promise.all(cleanups.map((cleanup) => cleanup())), /every client of PgBouncer is gone: not within/)
  await allGone([...pids.map(Number), tier.pgbouncer?.pid ?? 0])
  await client.end()
})

t.test('a test that is killed leaves no server behind', async (t) => {
  const victim = startCommand(t, process.execPath, ['test/integration/stack/tier-victim.ts'], { cwd: CHECKOUT })
  const pids = (await victim.printed(/pids ([\d ]+)\n/)).split(' ').map(Number)
  t.equal(pids.length, 3)
  process.kill(victim.pid, 'SIGKILL')
  await allGone(pids)
})
