import { join } from 'node:path'
import { endLeftoverPostgres, removeEmbeddedPostgres, startEmbeddedPostgres } from './embedded-postgres.ts'
import { LOOPBACK } from './free-port.ts'
import { endLeftoverPgbouncer, startPgbouncer } from './pgbouncer.ts'
import type { PostgresServer } from './postgres-server.ts'
import { endLeftoverServer, removeServer, startPrimary, startStandby } from './replicated-postgres.ts'

/** What tells processes of the database servers; all but the first only where there is more than one. */
export type DatabaseEnvironment = Record<'DATABASE_URL', string> &
  Partial<Record<'DATABASE_NODES' | 'SECOND_URL' | `${NodeName}_REPLICAS` | `${NodeName}_DIRECT` | FollowerName | DirectName, string>>

type NodeName = 'DATABASE_URL' | 'SECOND_URL'
type FollowerName = 'FOLLOWER_URL' | 'SECOND_FOLLOWER_URL'
type DirectName = 'DATABASE_DIRECT_URL' | 'SECOND_DIRECT_URL'

/** Database servers that run. */
export interface Databases {
  environment: DatabaseEnvironment
  /** What each is and where it listens, for people. */
  addresses: { name: string; address: string }[]
  /** Where the data is, for people. */
  directories: string[]
}

/** The database servers of one stack: how to start, end and remove them. */
export interface DatabaseStack {
  /** How to stop them is left in `started`, one by one, so that a start cut short stops what there is. */
  start: (started: AsyncDisposableStack) => Promise<Databases>
  /** Ends what a start that was killed has left, if anything. */
  endLeftovers: () => Promise<void>
  remove: () => Promise<void>
}

const DATABASE = 'monogram'
/** Their directories are unique in the checkout, as `PostgresOptions` asks. */
const NODES = [
  { name: 'DATABASE_URL', directory: 'full-1', follower: 'FOLLOWER_URL', followerDirectory: 'full-1-follower', direct: 'DATABASE_DIRECT_URL' },
  { name: 'SECOND_URL', directory: 'full-2', follower: 'SECOND_FOLLOWER_URL', followerDirectory: 'full-2-follower', direct: 'SECOND_DIRECT_URL' },
] as const
const SLOT = 'follower'

/** One PostgreSQL of npm's. */
export function oneDatabase(checkout: string, directory: string): DatabaseStack {
  return {
    async start(started) {
      console.log('Starting PostgreSQL …')
      const server = await startEmbeddedPostgres({ checkout, directory, databases: [DATABASE], durable: true })
      stopLater(started, [server])
      return { environment: { DATABASE_URL: server.url(DATABASE) }, addresses: [], directories: [server.directory] }
    },
    endLeftovers: () => endLeftoverPostgres(checkout, directory),
    remove: () => removeEmbeddedPostgres(checkout, directory),
  }
}

/** Two nodes with a replica each, by the system's PostgreSQL, and a PgBouncer before all four. */
export function databaseTier(checkout: string, directory: string): DatabaseStack {
  const places = NODES.flatMap((node) => [node.followerDirectory, node.directory]).map((name) => join(directory, name))
  const pidFile = join(directory, 'pgbouncer.pid')
  return {
    async start(started) {
      console.log('Starting PostgreSQL …')
      const servers: PostgresServer[] = []
      stopLater(started, servers)
      const behind = new Map<string, string>()
      const direct: Partial<Record<DirectName, string>> = {}
      for (const node of NODES) {
        const place = { checkout, durable: true }
        const primary = await startPrimary({ ...place, directory: join(directory, node.directory), databases: [DATABASE] })
        servers.unshift(primary)
        const follower = await startStandby({ ...place, directory: join(directory, node.followerDirectory), name: SLOT, primary })
        servers.unshift(follower)
        behind.set(node.name, primary.url(DATABASE)).set(node.follower, follower.url(DATABASE))
        direct[node.direct] = primary.url(DATABASE)
      }
      console.log('Starting PgBouncer …')
      const pooler = await startPgbouncer({ checkout, directory, databases: behind, pidFile, detached: true })
      started.defer(() => pooler.stop())
      const addresses = servers.toReversed().map(({ port }) => `${LOOPBACK}:${port}`)
      return {
        environment: {
          DATABASE_NODES: NODES.map(({ name }) => name).join(','),
          ...pooledUrls(pooler.url),
          DATABASE_URL_REPLICAS: 'FOLLOWER_URL',
          SECOND_URL_REPLICAS: 'SECOND_FOLLOWER_URL',
          DATABASE_URL_DIRECT: 'DATABASE_DIRECT_URL',
          SECOND_URL_DIRECT: 'SECOND_DIRECT_URL',
          ...direct,
        },
        addresses: [
          { name: 'PgBouncer', address: `${LOOPBACK}:${pooler.port}, before` },
          { name: 'PostgreSQL', address: addresses.filter((_, index) => index % 2 === 0).join(' ') },
          { name: 'replicas', address: addresses.filter((_, index) => index % 2 === 1).join(' ') },
        ],
        directories: servers.map((server) => server.directory),
      }
    },
    async endLeftovers() {
      await endLeftoverPgbouncer(pidFile)
      for (const place of places) await endLeftoverServer(checkout, place)
    },
    async remove() {
      for (const place of places) await removeServer(checkout, place)
    },
  }
}

function pooledUrls(url: (name: string) => string): Record<NodeName | FollowerName, string> {
  return {
    DATABASE_URL: url('DATABASE_URL'),
    SECOND_URL: url('SECOND_URL'),
    FOLLOWER_URL: url('FOLLOWER_URL'),
    SECOND_FOLLOWER_URL: url('SECOND_FOLLOWER_URL'),
  }
}

/** The servers that are in the list by then, followers before their primaries. */
function stopLater(started: AsyncDisposableStack, servers: readonly PostgresServer[]): void {
  started.defer(async () => {
    for (const server of servers) await server.stop()
    console.log('PostgreSQL stopped.')
  })
}
