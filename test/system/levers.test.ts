import t from 'tap'
import { apiClient } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFullStack } from '../support/full-stack.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram, type Monogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { replaceAll, startTraffic } from './lever-traffic.ts'

/**
 * Each lever is turned on, off and on again by environment alone while people upload, edit and follow: every process
 * is replaced in a rolling way, nothing acknowledged is lost, and nobody ever reads what was before its own change.
 */
const LEVERS = {
  cache: { variables: ['MEMCACHE_SERVERS'], inUse: /^monogram_cache_reads_total\{.*end="hit".*\} [1-9]/m },
  broker: { variables: ['AMQP_URL'], inUse: /^monogram_broker_publishes_total\{.*end="confirmed".*\} [1-9]/m },
} as const
const TURNS = ['on', 'off', 'on'] as const
/** What each turn lets happen before the next, at least, once its lever is seen to be used. */
const ROUNDS_PER_TURN = 3
/** For how long a cache that was switched on is not read: processes without it may still be writing. */
const ATTACH_SECONDS = '30'
const TOKEN = 'the-metrics-token'

t.test('levers under load', async (t) => {
  const monogram = await startMonogram(t, { env: { METRICS_TOKEN: TOKEN, CACHE_ATTACH_SECONDS: ATTACH_SECONDS } })
  const servers = await startFullStack(t)
  const db = openDatabase(t, monogram.databaseUrl)
  const traffic = await startTraffic(t, monogram)

  for (const [lever, { variables, inUse }] of Object.entries(LEVERS)) {
    for (const turn of TURNS) {
      const env = Object.fromEntries(turn === 'on' ? variables.map((name) => [name, servers[name] ?? '']) : [])
      await replaceAll(monogram, traffic, env)
      if (turn === 'on') await eventually(`${lever} on, and used`, async () => (inUse.test(await metrics(monogram)) ? true : undefined))
      await traffic.rounds(ROUNDS_PER_TURN)
      if (turn === 'off') t.notMatch(await metrics(monogram), inUse, `${lever} off`)
    }
  }
  await traffic.stop()
  await assertInvariants(t, monogram, db, { photos: traffic.photos })
})

async function metrics(monogram: Monogram): Promise<string> {
  const port = monogram.processes.web[0]?.port ?? 0
  return apiClient([`http://127.0.0.1:${port}`]).ok<string>('GET', '/metrics', { token: TOKEN })
}
