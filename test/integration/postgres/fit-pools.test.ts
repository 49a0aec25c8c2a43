import t from 'tap'
import type { NodeConfig } from '#platform/config/database.ts'
import { loadNodes } from '#platform/config/config.ts'
import { fitPools } from '#platform/postgres/fit-pools.ts'
import { probeServer } from '#platform/postgres/probe-server.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { freePort } from '../../../scripts/stack/free-port.ts'
import { startRenamingPooler } from '../../support/renaming-pooler.ts'
import { startTestTier } from '../../support/tier.ts'

const SILENT = createLogger({ process: 'test', level: 'silent' })
const LIMIT = 40

t.test('what a server allows, and what a pooler hides', async (t) => {
  const tier = await startTestTier(t, { nodes: 2, pgbouncer: true })
  const [direct, pooled] = [tier.nodes.map(({ name, primary }): NodeConfig => ({ name, url: primary.url })), loadNodes(tier.env)]
  const [first, second] = direct
  if (first === undefined || second === undefined) throw new Error('there are two')
  for (const { primary } of tier.nodes) {
    await primary.sql(`do $$ begin execute format('alter database %I connection limit ${LIMIT}', current_database()); end $$`)
  }

  await t.test('a server is asked for the least of its bounds', async (t) => {
    t.same(await probeServer(first), { isPooled: false, keepsPreparedStatements: true, connectionsMax: LIMIT })
  })

  await t.test('pools that fit are fine, and one connection more is refused with the numbers', async (t) => {
    t.match(await fitPools([first], { max: 10, processes: 4 }, SILENT), [{ name: 'DATABASE_URL', preparedStatements: true, replicas: [] }])
    await t.rejects(fitPools([first], { max: 10, processes: 5 }, SILENT), {
      message: /^DATABASE_URL allows 40 connections, and 5 processes .* × 10 connections .* are 50\. Lower DATABASE_POOL_MAX to 8,/,
    })
    await t.rejects(fitPools(direct, { max: 10, processes: 3 }, SILENT), {
      message: /^DATABASE_URL and SECOND_URL allows 40 .* × 2 databases there are 60\. Lower DATABASE_POOL_MAX to 6,/,
    })
  })

  await t.test('PgBouncer is noticed: nothing is refused, and nothing prepared unless the configuration says so', async (t) => {
    t.match(await probeServer({ name: 'X', url: tier.env.DATABASE_URL ?? '' }), { isPooled: true, keepsPreparedStatements: false })
    const prepared = async (words: string): Promise<(boolean | undefined)[]> => {
      const nodes = loadNodes({ ...tier.env, DATABASE_PREPARED_STATEMENTS: words })
      return (await fitPools(nodes, { max: 200, processes: 100 }, SILENT)).map(({ preparedStatements }) => preparedStatements)
    }
    t.same(await prepared(''), [false, false])
    t.same(await prepared('SECOND_URL'), [false, true])
    t.same((await fitPools([...pooled.slice(0, 1), second], { max: 10, processes: 4 }, SILENT)).map((node) => node.preparedStatements), [false, true])
  })

  await t.test('a pooler that keeps account of prepared statements, as PgBouncer does from 1.21, is found out by its names', async (t) => {
    const url = new URL(first.url)
    url.port = String(await startRenamingPooler(t, { host: url.hostname, port: Number(url.port) }))
    url.hostname = '127.0.0.1'
    const behind = { name: 'DATABASE_URL', url: url.href }
    t.match(await probeServer(behind), { isPooled: true, keepsPreparedStatements: true })
    t.match(await fitPools([behind], { max: 200, processes: 100 }, SILENT), [{ preparedStatements: true }])
  })

  await t.test('a node that is away stops the boot with its name; a replica does not', async (t) => {
    const gone = { name: 'GONE_URL', url: `postgres://u:p@127.0.0.1:${await freePort()}/db` }
    await t.rejects(fitPools([first, gone], { max: 2, processes: 1 }, SILENT), { message: /^GONE_URL cannot be used: .*ECONNREFUSED/ })
    t.match(await fitPools([{ ...first, replicas: [gone] }], { max: 2, processes: 1 }, SILENT), [
      { preparedStatements: true, replicas: [{ name: 'GONE_URL', preparedStatements: false }] },
    ])
    await t.rejects(fitPools([{ ...first, replicas: [{ ...second, name: 'COPY_URL' }] }], { max: 10, processes: 3 }, SILENT), {
      message: /DATABASE_URL and COPY_URL/,
    })
  })
})
