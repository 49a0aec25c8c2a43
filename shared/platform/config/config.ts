import { isIP } from 'node:net'
import { parseServers, type CacheServer } from '../memcached/server-list.ts'
import { readNodes, readPool, readReplicaLimits, type NodeConfig, type PoolConfig, type ReplicaLimits } from './database.ts'
import { readEnvironment, type Environment, type EnvironmentReader } from './environment.ts'
import { readStorage, type StorageConfig } from './storage.ts'

/** Everything that a process may be told from outside; read once, at boot, from the environment. */
export interface Config {
  readonly http: HttpConfig
  readonly logLevel: LogLevel
  readonly metrics: { readonly port: number | null; readonly token: string | null }
  /** Keys the HMACs of idempotency fingerprints and media names. */
  readonly secretKey: string
  /** The first node is the directory. */
  readonly nodes: readonly NodeConfig[]
  readonly pool: PoolConfig
  readonly replicas: ReplicaLimits
  readonly storage: StorageConfig
  /** RabbitMQ; null: workers claim their jobs from the outbox. */
  readonly broker: BrokerConfig | null
  /** Sequence numbers in a lane of the id ledger. */
  readonly laneWidth: number
  readonly safety: SafetyConfig
  readonly fanOut: FanOutConfig
  /** Null: the lever is off. */
  readonly cache: CacheConfig | null
}

export interface HttpConfig {
  readonly host: string
  readonly port: number
  /** Absolute base of media URLs, without a trailing slash; null: they begin with /media/. */
  readonly publicUrl: string | null
  /** Addresses or CIDR ranges whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[]
}

export interface BrokerConfig {
  /** amqp:// or amqps://, with user, password and virtual host. */
  readonly url: string
}

export interface SafetyConfig {
  /** Scores from 0 to 1 at and above which a category sends a photo to review or rejects it. */
  readonly rejectAt: number
  readonly reviewAt: number
  /** PDQ hashes at most this many bits apart are the same picture. */
  readonly hashDistanceMax: number
}

/** When an author's photos are not brought to the followers any more, but fetched by them. */
export interface FanOutConfig {
  /** From so many followers on. */
  readonly promoteAt: number
  /** Until there are fewer than so many. */
  readonly demoteAt: number
  /** How long readers have to hear of it before the first photo is not brought. */
  readonly pullDelayMs: number
}

export interface CacheConfig {
  /** The ring that is read. */
  readonly servers: readonly CacheServer[]
  /** The other ring while servers are added or taken away, on which keys are deleted too; mostly empty. */
  readonly nextServers: readonly CacheServer[]
  /** How long after the cache was switched on it is not read yet: until processes without it have gone. */
  readonly attachMs: number
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

const PORT_MAX = 65_535
const SECRET_KEY_CHARACTERS_MIN = 32
const LANE_WIDTH_DEFAULT = 8
const LANE_WIDTH_MAX = 1_024
const PROMOTE_FOLLOWERS_DEFAULT = 10_000
const DEMOTE_FOLLOWERS_DEFAULT = 8_000
const FOLLOWERS_MAX = 1_000_000_000
const PULL_DELAY_SECONDS_DEFAULT = 60
const PULL_DELAY_SECONDS_MAX = 3_600
const CACHE_ATTACH_SECONDS_DEFAULT = 60
const CACHE_ATTACH_SECONDS_MAX = 3_600
/** ThreatExchange recommends 31 bits of 256 for PDQ. */
const HASH_DISTANCE_BITS_DEFAULT = 31

/**
 * Turns the environment into the configuration.
 *
 * @throws ConfigError that names every bad or missing variable, and what would be right
 */
export function loadConfig(env: Environment): Config {
  const read = readEnvironment(env)
  const pool = readPool(read)
  const config: Config = {
    http: {
      host: read.text('HOST', '0.0.0.0'),
      port: read.integer('PORT', { min: 0, max: PORT_MAX, fallback: 3000 }),
      publicUrl: publicUrl(read),
      trustedProxies: trustedProxies(read),
    },
    logLevel: read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info'),
    metrics: {
      port: read.optionalInteger('METRICS_PORT', { min: 0, max: PORT_MAX }),
      token: read.optionalText('METRICS_TOKEN'),
    },
    secretKey: secretKey(read),
    nodes: readNodes(read, env),
    pool,
    replicas: readReplicaLimits(read, pool),
    storage: readStorage(read, env),
    broker: broker(read),
    laneWidth: laneWidth(read),
    safety: safety(read),
    fanOut: fanOut(read),
    cache: cache(read),
  }
  read.finish()
  return config
}

/** The part of the configuration that the release phase needs: the nodes alone. */
export function loadNodes(env: Environment): readonly NodeConfig[] {
  const read = readEnvironment(env)
  const found = readNodes(read, env)
  read.finish()
  return found
}

/** The level of the log alone, for commands that need no more. */
export function loadLogLevel(env: Environment): LogLevel {
  const read = readEnvironment(env)
  const level = read.oneOf('LOG_LEVEL', LOG_LEVELS, 'info')
  read.finish()
  return level
}

/** CloudAMQP's add-on sets the one, most others the other. */
function broker(read: EnvironmentReader): BrokerConfig | null {
  for (const name of ['CLOUDAMQP_URL', 'AMQP_URL']) {
    const url = read.optionalText(name)
    if (url === null) continue
    if (!/^amqps?:\/\/[^/]/.test(url) || !URL.canParse(url)) read.refuse(name, 'must be an amqp:// or amqps:// URL')
    return { url }
  }
  return null
}

function secretKey(read: EnvironmentReader): string {
  const key = read.text('SECRET_KEY')
  if (key !== '' && key.length < SECRET_KEY_CHARACTERS_MIN) {
    read.refuse('SECRET_KEY', `must have at least ${SECRET_KEY_CHARACTERS_MIN} characters (openssl rand -hex 32 makes one)`)
  }
  return key
}

function publicUrl(read: EnvironmentReader): string | null {
  const text = read.optionalText('PUBLIC_URL')
  if (text === null) return null
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) {
    read.refuse('PUBLIC_URL', `must be an http:// or https:// URL, not "${text}"`)
  }
  return text.replace(/\/+$/, '')
}

function trustedProxies(read: EnvironmentReader): string[] {
  const entries = read.list('TRUSTED_PROXIES')
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/')
    const bitsMax = isIP(address) === 6 ? 128 : 32
    const bitsBad = bits !== undefined && !(/^\d+$/.test(bits) && Number(bits) <= bitsMax)
    if (isIP(address) === 0 || bitsBad) {
      read.refuse('TRUSTED_PROXIES', `must list addresses or CIDR ranges such as 10.0.0.0/8, not "${entry}"`)
    }
  }
  return entries
}

function laneWidth(read: EnvironmentReader): number {
  const width = read.integer('ID_LANE_WIDTH', { min: 1, max: LANE_WIDTH_MAX, fallback: LANE_WIDTH_DEFAULT })
  if (LANE_WIDTH_MAX % width !== 0) read.refuse('ID_LANE_WIDTH', `must divide ${LANE_WIDTH_MAX}, not ${width}`)
  return width
}

function safety(read: EnvironmentReader): SafetyConfig {
  const config = {
    rejectAt: read.fraction('SAFETY_REJECT_AT', 0.95),
    reviewAt: read.fraction('SAFETY_REVIEW_AT', 0.75),
    hashDistanceMax: read.integer('SAFETY_HASH_DISTANCE_MAX', {
      min: 0,
      max: 256,
      fallback: HASH_DISTANCE_BITS_DEFAULT,
    }),
  }
  if (config.reviewAt > config.rejectAt) {
    read.refuse('SAFETY_REVIEW_AT', 'must not be above SAFETY_REJECT_AT')
  }
  return config
}

function fanOut(read: EnvironmentReader): FanOutConfig {
  const bounds = { min: 1, max: FOLLOWERS_MAX }
  const promoteAt = read.integer('FAN_OUT_PROMOTE_AT', { ...bounds, fallback: PROMOTE_FOLLOWERS_DEFAULT })
  const demoteAt = read.integer('FAN_OUT_DEMOTE_AT', { ...bounds, fallback: DEMOTE_FOLLOWERS_DEFAULT })
  const delaySeconds = read.integer('FAN_OUT_PULL_DELAY_SECONDS', {
    min: 0,
    max: PULL_DELAY_SECONDS_MAX,
    fallback: PULL_DELAY_SECONDS_DEFAULT,
  })
  if (demoteAt > promoteAt) read.refuse('FAN_OUT_DEMOTE_AT', 'must not be above FAN_OUT_PROMOTE_AT')
  return { promoteAt, demoteAt, pullDelayMs: delaySeconds * 1_000 }
}

/** MEMCACHE_SERVERS is set by people, so it goes before the MEMCACHIER_SERVERS of an add-on. */
function cache(read: EnvironmentReader): CacheConfig | null {
  const variable = read.optionalText('MEMCACHE_SERVERS') === null ? 'MEMCACHIER_SERVERS' : 'MEMCACHE_SERVERS'
  const credentials = cacheCredentials(read)
  const servers = cacheServers(read, variable, credentials)
  const nextServers = cacheServers(read, 'MEMCACHE_SERVERS_NEXT', credentials)
  const attachSeconds = read.integer('CACHE_ATTACH_SECONDS', {
    min: 0,
    max: CACHE_ATTACH_SECONDS_MAX,
    fallback: CACHE_ATTACH_SECONDS_DEFAULT,
  })
  if (servers.length > 0) return { servers, nextServers, attachMs: attachSeconds * 1_000 }
  if (nextServers.length > 0) read.refuse('MEMCACHE_SERVERS_NEXT', 'needs MEMCACHE_SERVERS: it is the other ring of a resize')
  return null
}

function cacheCredentials(read: EnvironmentReader): CacheServer['credentials'] {
  const own = read.optionalText('MEMCACHE_USERNAME')
  const prefix = own === null ? 'MEMCACHIER' : 'MEMCACHE'
  const username = own ?? read.optionalText('MEMCACHIER_USERNAME')
  const password = read.optionalText(`${prefix}_PASSWORD`)
  if (username !== null && password !== null) return { username, password }
  if (username !== null) read.refuse(`${prefix}_PASSWORD`, `is required with ${prefix}_USERNAME`)
  if (password !== null) read.refuse(`${prefix}_USERNAME`, `is required with ${prefix}_PASSWORD`)
  return null
}

function cacheServers(
  read: EnvironmentReader,
  variable: string,
  credentials: CacheServer['credentials'],
): readonly CacheServer[] {
  const servers = parseServers(read.list(variable), credentials)
  if (typeof servers !== 'string') return servers
  read.refuse(variable, servers)
  return []
}
