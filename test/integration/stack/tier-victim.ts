import type { Test } from 'tap'
import { startTestTier } from '../../support/tier.ts'

/** A process with a tier that never comes to its teardown: prints the numbers of the servers and waits to be killed. */
const tier = await startTestTier({ teardown: () => undefined } as unknown as Test, { replicasOfEach: 1, pgbouncer: true })
const servers = tier.nodes.flatMap(({ primary, replicas }) => [primary, ...replicas])
const pids = await Promise.all(servers.map(({ pid }) => pid()))
console.log(`pids ${[...pids, tier.pgbouncer?.pid].join(' ')}`)
setInterval(() => undefined, 60_000)
