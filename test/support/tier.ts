import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { Settings } from '../../scripts/stack/postgres-server.ts'
import { CHECKOUT } from './checkout-copy.ts'
import { createTestDatabase } from './database.ts'
import { eventually } from './eventually.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import { startTestPgbouncer, type TestPgbouncer } from './pgbouncer.ts'
import { runSql, startTestPrimary, startTestStandby, type TestServer, type TestStandby } from './tier-server.ts'

export interface TierOptions {
  nodes?: 1 | 2 | 3 | 4
  /** How many streaming replicas each node has. */
  replicasOfEach?: 0 | 1 | 2
  /** True: the environment names one PgBouncer in transaction mode, which stands before every server. */
  pgbouncer?: boolean
  /** How far behind replicas are from the beginning; see `TestStandby.delayReplay`. */
  replicaDelayMs?: number
  /** True: a commit waits until one of the node's replicas has it on its disk. */
  synchronous?: boolean
  /** True: every node is a server of this test's own, also without replicas. Else nodes without replicas are databases of the run's server, which is much cheaper and cannot be stopped. */
  ownServers?: boolean
  /** Of every server of this test's own, such as `{ wal_level: 'logical' }`. */
  settings?: Settings
}

/** The database servers of one test, migrated, with the logical shards spread evenly over the nodes. */
export interface TestTier {
  /** What tells a process of them: DATABASE_NODES, the URLs and what goes with them. */
  readonly env: Readonly<Record<string, string>>
  /** The first is the directory. */
  readonly nodes: readonly TierNode[]
  readonly pgbouncer: TestPgbouncer | undefined
}

export interface TierNode {
  readonly name: string
  readonly primary: TestServer
  readonly replicas: readonly TestStandby[]
}

const NODE_NAMES = ['DATABASE_URL', 'SECOND_URL', 'THIRD_URL', 'FOURTH_URL']
/** Many servers share a test machine; a run's one server has its own number. */
const CONNECTIONS_MAX = 100

/** Starts the database servers of a test. All is stopped and removed at teardown; a leaked connection fails the test. */
export async function startTestTier(t: Test, options: TierOptions = {}): Promise<TestTier> {
  const names = NODE_NAMES.slice(0, options.nodes ?? 1)
  const directory = await temporaryDirectory(t)
  // Run by root, PostgreSQL is another user, who has to be able to enter.
  await chmod(directory, 0o755)
  const hasOwnServers = options.ownServers ?? (options.replicasOfEach ?? 0) > 0
  const nodes = hasOwnServers ? await startServers(t, directory, names, options) : await shareServer(t, names)
  const servers = nodes.flatMap(({ primary, replicas }) => [primary, ...replicas])
  const urls = new Map(servers.map(({ name, url }) => [name, url]))
  const pgbouncer = options.pgbouncer === true ? await startTestPgbouncer(t, directory, urls) : undefined
  return { env: environment(nodes, pgbouncer), nodes, pgbouncer }
}

function environment(nodes: readonly TierNode[], pgbouncer: TestPgbouncer | undefined): Record<string, string> {
  const env: Record<string, string> = { DATABASE_NODES: nodes.map(({ name }) => name).join(',') }
  for (const { name, primary, replicas } of nodes) {
    for (const server of [primary, ...replicas]) env[server.name] = pgbouncer?.url(server.name) ?? server.url
    if (replicas.length > 0) env[`${name}_REPLICAS`] = replicas.map((replica) => replica.name).join(',')
  }
  return env
}

async function startServers(t: Test, directory: string, names: readonly string[], options: TierOptions): Promise<TierNode[]> {
  const settings = { max_connections: CONNECTIONS_MAX, ...options.settings }
  const placeOf = (suffix: string): string => join(directory, `${basename(directory)}-${suffix}`)
  const primaries = await Promise.all(
    names.map((name, index) => startTestPrimary(t, { name, directory: placeOf(String(index + 1)), settings })),
  )
  // Before there are standbys: so they have it from the beginning, however far behind they are to be.
  await migrate(Object.fromEntries([['DATABASE_NODES', names.join(',')], ...primaries.map(({ name, url }) => [name, url] as const)]))
  return Promise.all(
    primaries.map(async (primary, index) => {
      const numbers = Array.from({ length: options.replicasOfEach ?? 0 }, (_, number) => number + 1)
      const start = (number: number): Promise<TestStandby> => startTestStandby(t, {
        name: `${primary.name}_REPLICA_${number}`,
        directory: placeOf(`${index + 1}-${number}`),
        settings,
        primary,
        applyDelayMs: options.replicaDelayMs ?? 0,
      })
      const replicas = await Promise.all(numbers.map(start))
      if (options.synchronous === true) await makeSynchronous(primary)
      return { name: primary.name, primary, replicas }
    }),
  )
}

async function makeSynchronous(primary: TestServer): Promise<void> {
  await primary.sql(`alter system set synchronous_standby_names = 'FIRST 1 (*)'`)
  await primary.sql('select pg_reload_conf()')
  await eventually(`${primary.name} has a synchronous standby`, async () => {
    const found = await primary.sql(`select 1 from pg_stat_replication where sync_state = 'sync'`)
    return found.length > 0 ? true : undefined
  })
}

/** Runs the release phase, as a deploy would. */
async function migrate(env: Record<string, string>): Promise<void> {
  const child = spawn(process.execPath, ['scripts/migrate.ts'], {
    cwd: CHECKOUT,
    env: { PATH: process.env.PATH, LOG_LEVEL: 'warn', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [complaints] = await Promise.all([text(child.stderr), text(child.stdout), once(child, 'close')])
  if (child.exitCode !== 0) throw new Error(`scripts/migrate.ts ended with ${String(child.exitCode)}.\n${complaints}`)
}

async function shareServer(t: Test, names: readonly string[]): Promise<TierNode[]> {
  const nodes: TierNode[] = []
  for (const name of names) nodes.push({ name, primary: sharedServer(name, (await createTestDatabase(t)).url), replicas: [] })
  await nodes[0]?.primary.sql('update shard_map set node = ($1::text[])[1 + shard % $2::int]', [names, names.length])
  return nodes
}

function sharedServer(name: string, url: string): TestServer {
  const asSuperuser = new URL(url)
  // As `initialise` makes it: the superuser has the role's password.
  asSuperuser.username = 'postgres'
  const refuse = (): Promise<never> => Promise.reject(new Error('The server of the run is not to be stopped: start the tier with ownServers.'))
  return {
    name,
    url,
    superuserUrl: asSuperuser.href,
    sql: (statement, values) => runSql(asSuperuser.href, statement, values),
    pid: refuse,
    kill: refuse,
    stop: refuse,
    start: refuse,
  }
}
