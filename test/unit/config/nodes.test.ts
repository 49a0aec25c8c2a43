import t from 'tap'
import { loadNodes } from '#platform/config/config.ts'
import type { Environment } from '#platform/config/environment.ts'

const TWO = {
  DATABASE_NODES: 'ONE_URL,TWO_URL',
  ONE_URL: 'postgres://u:p@one/db',
  TWO_URL: 'postgres://u:p@two:5433/db',
  COPY_URL: 'postgres://u:p@copy/db',
  OTHER_COPY_URL: 'postgres://u:p@other/db',
}

t.test('DATABASE_URL alone is one node', async (t) => {
  t.same(loadNodes({ DATABASE_URL: 'postgres://one/db' }), [
    { name: 'DATABASE_URL', url: 'postgres://one/db', replicas: [], directUrl: 'postgres://one/db' },
  ])
})

t.test('variables name variables: nodes, replicas of each, direct URLs', async (t) => {
  const nodes = loadNodes({
    ...TWO,
    ONE_URL_REPLICAS: 'COPY_URL, OTHER_COPY_URL',
    TWO_URL_DIRECT: 'TWO_DIRECT_URL',
    TWO_DIRECT_URL: 'postgres://u:p@two-direct/db',
  })
  t.match(nodes, [
    { name: 'ONE_URL', url: TWO.ONE_URL, directUrl: TWO.ONE_URL, replicas: [{ name: 'COPY_URL', url: TWO.COPY_URL }, { name: 'OTHER_COPY_URL' }] },
    { name: 'TWO_URL', url: TWO.TWO_URL, directUrl: 'postgres://u:p@two-direct/db' },
  ])
  t.same(nodes[1]?.replicas, [])
})

t.test('what cannot be meant is refused, by its name', async (t) => {
  const cases: [Environment, RegExp][] = [
    [{}, /DATABASE_URL is required and not set$/m],
    [{ DATABASE_URL: 'mysql://one/db' }, /DATABASE_URL must be a postgres:\/\/ URL/],
    [{ ...TWO, DATABASE_NODES: 'ONE_URL,TWO_URL,ONE_URL' }, /DATABASE_NODES names ONE_URL twice/],
    [{ ...TWO, DATABASE_NODES: 'ONE_URL,THREE_URL' }, /THREE_URL is required and not set: DATABASE_NODES names it/],
    [{ ...TWO, ONE_URL_REPLICAS: 'LOST_URL' }, /LOST_URL is required and not set: ONE_URL_REPLICAS names it/],
    [{ ...TWO, ONE_URL_REPLICAS: 'TWO_URL' }, /ONE_URL_REPLICAS names TWO_URL, which is a node itself/],
    [{ ...TWO, ONE_URL_REPLICAS: 'COPY_URL', TWO_URL_REPLICAS: 'COPY_URL' }, /TWO_URL_REPLICAS names COPY_URL, which is named twice/],
    [{ ...TWO, ONE_REPLICAS: 'COPY_URL' }, /ONE_REPLICAS names replicas of ONE, which is not a node: those are ONE_URL, TWO_URL/],
    [{ ...TWO, ONE_URL_DIRECT: 'ABSENT_URL' }, /ABSENT_URL is required and not set: ONE_URL_DIRECT names it/],
    [{ ...TWO, TWO_URL: 'postgres://other:user@one:5432/db' }, /TWO_URL is the same database as ONE_URL/],
    [{ ...TWO, ONE_URL_REPLICAS: 'COPY_URL', COPY_URL: TWO.ONE_URL }, /COPY_URL is the same database as ONE_URL/],
  ]
  for (const [env, message] of cases) t.throws(() => loadNodes(env), { name: 'ConfigError', message })
  t.equal(loadNodes({ ...TWO, WEB_REPLICAS: '3' }).length, 2, 'other things have replicas, too')
})

t.test('sslmode is one that everybody understands alike', async (t) => {
  const urlFor = (url: string, mode?: string): string | undefined => loadNodes({ DATABASE_URL: url, DATABASE_SSLMODE: mode })[0]?.url
  for (const mode of ['disable', 'no-verify', 'verify-full']) {
    t.equal(urlFor(`postgres://h/db?sslmode=${mode}`), `postgres://h/db?sslmode=${mode}`)
    t.equal(urlFor('postgres://h/db', mode), `postgres://h/db?sslmode=${mode}`)
    t.equal(urlFor('postgres://h/db?sslmode=require&keepalives=1', mode), `postgres://h/db?sslmode=${mode}&keepalives=1`, 'the variable goes first')
    t.equal(urlFor('postgres://h/db?ssl=true', mode), `postgres://h/db?sslmode=${mode}`)
  }
  t.equal(urlFor('postgres://h/db?uselibpqcompat=true&sslmode=no-verify'), 'postgres://h/db?sslmode=no-verify')
  for (const mode of ['allow', 'prefer', 'require', 'verify-ca', 'nonsense']) {
    t.throws(() => urlFor(`postgres://h/db?sslmode=${mode}`), { message: new RegExp(`DATABASE_URL has sslmode=${mode}, .*DATABASE_SSLMODE to verify-full`) })
    t.throws(() => urlFor('postgres://h/db', mode), { message: /DATABASE_SSLMODE must be one of disable, no-verify, verify-full/ })
  }
  t.throws(() => urlFor('postgres://h/db?ssl=true'), { message: /DATABASE_URL has ssl=true, .*verify-full/ })
})
