import t from 'tap'
import { loadNodes } from '#platform/config/config.ts'
import { ConfigError } from '#platform/config/environment.ts'

const NODES = { DATABASE_NODES: 'ONE_URL,TWO_URL', ONE_URL: 'postgres://one/db', TWO_URL: 'postgres://two/db' }

const prepared = (value: string | undefined): (boolean | undefined)[] =>
  loadNodes({ ...NODES, DATABASE_PREPARED_STATEMENTS: value }).map((node) => node.preparedStatements)

t.test('which nodes prepare statements: all, none or some', async (t) => {
  t.same(prepared(undefined), [undefined, undefined], 'as each server is found')
  t.same(prepared('on'), [true, true])
  t.same(prepared('off'), [false, false])
  t.same(prepared('TWO_URL'), [false, true])
  t.same(prepared('TWO_URL, ONE_URL'), [true, true])
  const withReplica = { ...NODES, ONE_URL_REPLICAS: 'COPY_URL', COPY_URL: 'postgres://copy/db', DATABASE_PREPARED_STATEMENTS: 'COPY_URL' }
  t.match(loadNodes(withReplica), [
    { preparedStatements: false, replicas: [{ preparedStatements: true }] },
    { preparedStatements: false },
  ])
  for (const bad of ['yes', 'on,off', 'ONE_URL,THREE_URL']) {
    t.throws(() => prepared(bad), ConfigError, bad)
    t.throws(() => prepared(bad), { message: /DATABASE_PREPARED_STATEMENTS must be on, off or a list of ONE_URL, TWO_URL/ })
  }
})
