import { readTls, type Tls } from './database-tls.ts'
import type { Environment, EnvironmentReader } from './environment.ts'

/** One PostgreSQL server, or a pooler before it. */
export interface DatabaseServer {
  /** The name of the variable that holds the URL: a host may rotate the URL, never the name. */
  readonly name: string
  readonly url: string
  /** Whether statements may be prepared under names; when not said, processes ask the server at boot, and others do not. */
  readonly preparedStatements?: boolean
}

/** A primary and its replicas. */
export interface NodeConfig extends DatabaseServer {
  /** Servers that replay what the primary does; none when not said. */
  readonly replicas?: readonly DatabaseServer[]
  /** Past any pooler, for what needs a session of its own; the URL itself when not said. */
  readonly directUrl?: string
}

export interface PoolConfig {
  /** Connections per process and server. */
  readonly max: number
  /** How many processes share each server: what is checked against its limit at boot. */
  readonly processes: number
}

export interface ReplicaLimits {
  /** Whoever is further behind is not read. */
  readonly lagMsMax: number
  /** Reads at once, per process and node, that go to the primary because no replica is there. */
  readonly displacedReadsMax: number
}

const CONNECTIONS_DEFAULT = 10
const CONNECTIONS_MAX = 200
const PROCESSES_MAX = 10_000
const LAG_SECONDS_DEFAULT = 5
const LAG_SECONDS_MAX = 3_600
/** Together they wait for a few turns of every connection: longer than a moment, shorter than a client does. */
const DISPLACED_READS_PER_CONNECTION = 8
const DISPLACED_READS_MAX = 100_000
const DIRECTORY_DEFAULT = 'DATABASE_URL'
const POSTGRES_URL = /^postgres(ql)?:\/\//
const POSTGRES_PORT = '5432'

/**
 * The nodes: DATABASE_NODES names the variables that hold the URLs of the primaries, the directory first (DATABASE_URL
 * alone when it is not set); `<node>_REPLICAS` those of a node's replicas, and `<node>_DIRECT` the one that holds its URL
 * past a pooler. Refuses names that stand for nothing or for two things.
 */
export function readNodes(read: EnvironmentReader, env: Environment): NodeConfig[] {
  const listed = read.list('DATABASE_NODES')
  const nodeNames = listed.length > 0 ? listed : [DIRECTORY_DEFAULT]
  const replicaNames = new Map(nodeNames.map((name) => [name, read.list(`${name}_REPLICAS`)]))
  refuseRepeats(read, nodeNames, replicaNames)
  refuseStrayReplicas(read, env, nodeNames)

  const tls = readTls(read)
  const prepared = preparedServers(read, [...nodeNames, ...[...replicaNames.values()].flat()])
  const server = (name: string, namedBy: string | null): DatabaseServer => ({
    name,
    url: urlOf(read, tls, name, namedBy),
    ...(prepared !== null && { preparedStatements: prepared.has(name) }),
  })
  const nodes = nodeNames.map((name): NodeConfig => {
    const primary = server(name, listed.length > 0 ? 'DATABASE_NODES' : null)
    const replicas = (replicaNames.get(name) ?? []).map((replica) => server(replica, `${name}_REPLICAS`))
    const direct = read.optionalText(`${name}_DIRECT`)
    return { ...primary, replicas, directUrl: direct === null ? primary.url : urlOf(read, tls, direct, `${name}_DIRECT`) }
  })
  refuseSameDatabase(read, nodes)
  return nodes
}

/** Bounds of what replicas take over, and give back to their primaries when they are away. */
export function readReplicaLimits(read: EnvironmentReader, pool: PoolConfig): ReplicaLimits {
  const lag = { min: 1, max: LAG_SECONDS_MAX, fallback: LAG_SECONDS_DEFAULT }
  const displaced = { min: 0, max: DISPLACED_READS_MAX, fallback: pool.max * DISPLACED_READS_PER_CONNECTION }
  return {
    lagMsMax: read.integer('REPLICA_LAG_SECONDS_MAX', lag) * 1_000,
    displacedReadsMax: read.integer('REPLICA_DISPLACED_READS_MAX', displaced),
  }
}

export function readPool(read: EnvironmentReader): PoolConfig {
  return {
    max: read.integer('DATABASE_POOL_MAX', { min: 2, max: CONNECTIONS_MAX, fallback: CONNECTIONS_DEFAULT }),
    processes: read.integer('DATABASE_PROCESSES', { min: 1, max: PROCESSES_MAX, fallback: 1 }),
  }
}

function urlOf(read: EnvironmentReader, tls: Tls, name: string, namedBy: string | null): string {
  const url = read.optionalText(name)
  if (url === null) {
    read.refuse(name, `is required and not set${namedBy === null ? '' : `: ${namedBy} names it`}`)
    return ''
  }
  if (!POSTGRES_URL.test(url)) {
    read.refuse(name, 'must be a postgres:// URL')
    return ''
  }
  return tls.applyTo(name, url)
}

function refuseRepeats(read: EnvironmentReader, nodeNames: readonly string[], replicaNames: ReadonlyMap<string, readonly string[]>): void {
  const seen = new Set<string>()
  for (const name of nodeNames) {
    if (seen.has(name)) read.refuse('DATABASE_NODES', `names ${name} twice`)
    seen.add(name)
  }
  for (const [node, replicas] of replicaNames) {
    for (const name of replicas) {
      if (nodeNames.includes(name)) read.refuse(`${node}_REPLICAS`, `names ${name}, which is a node itself`)
      else if (seen.has(name)) read.refuse(`${node}_REPLICAS`, `names ${name}, which is named twice`)
      seen.add(name)
    }
  }
}

/** Replicas of what is no node would be left out without a word: mostly the name of a node misspelt. */
function refuseStrayReplicas(read: EnvironmentReader, env: Environment, nodeNames: readonly string[]): void {
  for (const variable of Object.keys(env)) {
    const node = /^(\w+)_REPLICAS$/.exec(variable)?.[1]
    if (node === undefined || nodeNames.includes(node)) continue
    const names = read.list(variable)
    // Others have variables that end so, too.
    if (names.length === 0 || !names.every((name) => POSTGRES_URL.test(env[name] ?? ''))) continue
    read.refuse(variable, `names replicas of ${node}, which is not a node: those are ${nodeNames.join(', ')}`)
  }
}

/** Two nodes in one database would write each row for the other, too. */
function refuseSameDatabase(read: EnvironmentReader, nodes: readonly NodeConfig[]): void {
  const owners = new Map<string, string>()
  for (const { name, url } of nodes.flatMap((node) => [node, ...(node.replicas ?? [])])) {
    const place = placeOf(url)
    if (place === null) continue
    const owner = owners.get(place)
    if (owner !== undefined && owner !== name) read.refuse(name, `is the same database as ${owner}`)
    owners.set(place, name)
  }
}

/** Server and database of a URL; null when it is not as others understand URLs. */
function placeOf(url: string): string | null {
  if (!URL.canParse(url)) return null
  const { hostname, port, pathname } = new URL(url)
  return hostname === '' ? null : `${hostname}:${port || POSTGRES_PORT}${pathname}`
}

/** Those of the servers whose connections keep prepared statements: all, none, or the ones listed; null when nothing is said. */
function preparedServers(read: EnvironmentReader, names: readonly string[]): ReadonlySet<string> | null {
  const words = read.list('DATABASE_PREPARED_STATEMENTS')
  if (words.length === 0) return null
  if (words.length === 1 && words[0] === 'on') return new Set(names)
  if (words.length === 1 && words[0] === 'off') return new Set()
  const strange = words.find((word) => !names.includes(word))
  if (strange !== undefined) {
    read.refuse('DATABASE_PREPARED_STATEMENTS', `must be on, off or a list of ${names.join(', ')}, not "${strange}"`)
  }
  return new Set(words)
}
