import t from 'tap'
import { eventually } from '../../support/eventually.ts'
import { runSql, type TestServer } from '../../support/tier-server.ts'
import { startTestTier } from '../../support/tier.ts'

/** The servers of the data tier are real, do what tests ask of them, and go when their test does. */

const portOf = ({ url }: TestServer): number => Number(new URL(url).port)
const value = async (url: string): Promise<unknown> => (await runSql<{ n: number }>(url, 'select n from example'))[0]?.n

t.test('two nodes with replicas behind PgBouncer', async (t) => {
  const tier = await startTestTier(t, { nodes: 2, replicasOfEach: 1, pgbouncer: true })
  const [first, second] = tier.nodes
  if (first === undefined || second === undefined) throw new Error('there are two')
  const at = (name: string): string => tier.env[name] ?? ''
  const [replica] = first.replicas
  if (replica === undefined) throw new Error('there is one')

  await t.test('hold the logical shards in equal parts, each behind its name', async (t) => {
    const rows = await runSql(at('DATABASE_URL'), 'select node, count(*)::int as n from shard_map group by 1 order by 1')
    t.same(rows, [{ node: 'DATABASE_URL', n: 4096 }, { node: 'SECOND_URL', n: 4096 }])
    t.match(tier.env, {
      DATABASE_NODES: 'DATABASE_URL,SECOND_URL',
      SECOND_URL_REPLICAS: 'SECOND_URL_REPLICA_1',
    })
    for (const server of tier.nodes.flatMap(({ primary, replicas }) => [primary, ...replicas])) {
      t.equal(new URL(at(server.name)).port, String(tier.pgbouncer?.port))
      t.same(await runSql(at(server.name), 'select inet_server_port() as port'), [{ port: portOf(server) }])
    }
  })

  await t.test('a replica follows its own primary, refuses writes, stands still when told and catches up', async (t) => {
    await runSql(at('DATABASE_URL'), 'create table example as select 1 as n')
    await replica.caughtUp()
    t.equal(await value(at(replica.name)), 1)
    await t.rejects(runSql(at(replica.name), 'update example set n = 0'), { code: '25006' })
    t.same(await runSql(at('SECOND_URL_REPLICA_1'), `select to_regclass('example') as found`), [{ found: null }])

    await replica.pauseReplay()
    await runSql(at('DATABASE_URL'), 'update example set n = 2')
    await eventually('the replica has received it', async () => {
      const [row] = await replica.sql<{ ahead: boolean }>('select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() as ahead')
      return row?.ahead === true ? true : undefined
    })
    t.equal(await value(at(replica.name)), 1)
    await replica.resumeReplay()
    await replica.caughtUp()
    t.equal(await value(at(replica.name)), 2)
  })

  await t.test('a killed primary comes back with its data, and its replicas with it', async (t) => {
    await first.primary.kill()
    await t.rejects(runSql(first.primary.url, 'select 1'), { code: 'ECONNREFUSED' })
    t.equal(await value(at(replica.name)), 2, 'its replicas answer')
    await first.primary.start()
    await runSql(first.primary.url, 'update example set n = 3')
    await replica.caughtUp()
    t.equal(await value(replica.url), 3)
    await replica.stop()
    await replica.start()
    t.equal(await value(replica.url), 3)
  })

  await t.test('a promoted standby takes the place of its primary behind PgBouncer', async (t) => {
    await replica.caughtUp()
    await first.primary.kill()
    await replica.promote()
    await tier.pgbouncer?.point('DATABASE_URL', replica.url)
    await runSql(at('DATABASE_URL'), 'update example set n = 4')
    t.equal(await value(replica.url), 4)
  })
})

t.test('a delayed, synchronous replica has what was committed, and shows it later', async (t) => {
  const tier = await startTestTier(t, { replicasOfEach: 1, replicaDelayMs: 60_000, synchronous: true })
  const [node] = tier.nodes
  const [replica] = node?.replicas ?? []
  await runSql(tier.env.DATABASE_URL ?? '', 'create table example as select 1 as n')
  const [lsn] = await node?.primary.sql<{ lsn: string }>('select pg_current_wal_flush_lsn() as lsn') ?? []
  t.same(await replica?.sql('select pg_last_wal_receive_lsn() >= $1 as received', [lsn?.lsn]), [{ received: true }])
  t.same(await replica?.sql(`select to_regclass('example') as found`), [{ found: null }])
  await replica?.delayReplay(0)
  await replica?.caughtUp()
  t.equal(await value(replica?.url ?? ''), 1)
})

t.test('nodes without replicas are databases of the run’s server', async (t) => {
  const tier = await startTestTier(t, { nodes: 4, pgbouncer: true })
  t.equal(new Set(tier.nodes.map(({ primary }) => portOf(primary))).size, 1)
  const [{ n } = { n: 0 }] = await runSql<{ n: number }>(tier.env.DATABASE_URL ?? '', `select count(*)::int as n from shard_map where node = 'FOURTH_URL'`)
  t.equal(n, 2048)
  await t.rejects(tier.nodes[0]?.primary.kill() ?? Promise.resolve(), /ownServers/)
})
