import t from 'tap'
import { formatShards } from '#domain/shards/shard-ranges.ts'
import { CHECKOUT } from '../support/checkout-copy.ts'
import { startCommand } from '../support/command.ts'
import { eventually } from '../support/eventually.ts'
import { peopledShards } from '../support/peopled-shards.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startTestMemcached } from '../support/memcached.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { startTestTier } from '../support/tier.ts'
import { sumMetric } from '../support/web-metrics.ts'
import { replaceAll, startTraffic } from './lever-traffic.ts'

/**
 * The levers of the data tier are pulled one after another while people upload, edit and follow, and then let go in the
 * opposite order, until there is one database again: a second node, replicas, a pooler. Nothing acknowledged is lost,
 * and nobody ever reads what was before their own change.
 */
const ROUNDS_PER_TURN = 3
const TOKEN = 'the-metrics-token'
const CLEANED_AFTER = '11 minutes'

t.test('nodes, replicas and a pooler come and go under load', async (t) => {
  const tier = await startTestTier(t, { nodes: 2, replicasOfEach: 1, pgbouncer: true })
  const [first, second] = tier.nodes
  if (first === undefined || second === undefined || tier.pgbouncer === undefined) throw new Error('two nodes and a pooler')
  // As at a first deploy, when nobody thought of a second node; which is no directory.
  await first.primary.sql('update shard_map set node = $1', [first.name])
  const { server } = await startTestMemcached(t)
  const one = { DATABASE_URL: first.primary.url }
  const two = { ...one, DATABASE_NODES: `${first.name},${second.name}`, [second.name]: second.primary.url }
  const replicas = Object.fromEntries(tier.nodes.flatMap(({ name, replicas: [replica] }) =>
    replica === undefined ? [] : [[`${name}_REPLICAS`, replica.name], [replica.name, replica.url]]))
  const pooled = { ...tier.env }

  const monogram = await startMonogram(t, {
    tier: { ...tier, env: one },
    env: { METRICS_TOKEN: TOKEN, MEMCACHE_SERVERS: server.name, CACHE_ATTACH_SECONDS: '0' },
  })
  const traffic = await startTraffic(t, monogram)
  const turn = async (env: Record<string, string>): Promise<void> => {
    await replaceAll(monogram, traffic, env)
    await traffic.rounds(ROUNDS_PER_TURN)
  }
  const shards = async (...args: string[]): Promise<string> => {
    const command = startCommand(t, process.execPath, ['scripts/shards.ts', ...args], { cwd: CHECKOUT, env: { PATH: process.env.PATH, ...two } })
    t.same(await command.ended, { code: 0, signal: null }, command.output())
    return command.output()
  }
  const readsReplicas = async (): Promise<number> =>
    sumMetric([`http://127.0.0.1:${monogram.processes.web[0]?.port ?? 0}`], TOKEN, 'monogram_replica_reads_total', { target: 'replica' })
  /** Of our processes. */
  const poolerClients = async (): Promise<number> =>
    (await tier.pgbouncer?.show('show clients') ?? []).filter(({ application_name: name }) => String(name).startsWith('monogram')).length

  await turn(two)
  t.match(await shards('add-node', second.name), 'is ready')
  const peopled = formatShards(await peopledShards(first))
  await shards('move', peopled, '--to', second.name)
  await traffic.rounds(ROUNDS_PER_TURN)
  t.same(await peopledShards(first), [], 'everybody is on the second node')
  await turn({ ...two, ...replicas })
  await eventually('replicas are read', async () => (await readsReplicas()) > 0 ? true : undefined)
  await turn(pooled)
  t.ok(await poolerClients(), 'the pooler is used')

  await turn({ ...two, ...replicas })
  t.equal(await poolerClients(), 0)
  await turn(two)
  t.equal(await readsReplicas(), 0)
  await shards('move', peopled, '--to', first.name)
  await second.primary.sql('update shard_state set since = since - $1::interval', [CLEANED_AFTER])
  traffic.isRecounting = true
  t.match(await shards('remove-node', second.name), /SECOND_URL\tcounts of \d+ accounts\t0 dead letters\tare on the other nodes/)
  traffic.isRecounting = false
  await traffic.rounds(ROUNDS_PER_TURN)
  await turn(one)
  t.match(await shards('remove-node', second.name), /counts of 0 accounts\t0 dead letters/)
  await second.primary.stop()
  await traffic.rounds(ROUNDS_PER_TURN)

  await traffic.stop()
  await assertInvariants(t, monogram, openDatabase(t, monogram.databaseUrl), { photos: traffic.photos })
})
