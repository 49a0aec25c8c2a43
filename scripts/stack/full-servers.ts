import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LOOPBACK } from './free-port.ts'
import { endLeftoverMemcached, MEMCACHED_PACKAGE, startMemcached } from './memcached.ts'
import type { Memcached } from './memcached.ts'
import { ensurePackages } from './packages.ts'
import { PGBOUNCER_PACKAGE } from './pgbouncer.ts'
import { POSTGRESQL_PACKAGE } from './postgres-programs.ts'
import { endLeftoverRabbitmq, RABBITMQ_PACKAGE, startRabbitmq } from './rabbitmq.ts'
import { startS3 } from './s3.ts'

/** What turns the levers on. */
export type LeverEnvironment = Record<
  'MEMCACHE_SERVERS' | 'AMQP_URL' | 'STORAGE_URL' | 'AWS_ACCESS_KEY_ID' | 'AWS_SECRET_ACCESS_KEY',
  string
>

/** The servers beside those of the database, all running. */
export interface FullServers {
  environment: LeverEnvironment
  /** What each is and where it listens, for people. */
  addresses: { name: string; address: string }[]
}

/** Ports that servers keep from one start to the next: the cache's ring, and with it its generation, stays the same. */
interface Memory {
  memcached: number[]
  s3?: number
}

const CACHE_SERVERS = 3

/** Installs what the servers need, those of the database too. Throws the exact command to run when it may not. */
export async function ensureFullServers(): Promise<void> {
  await ensurePackages([POSTGRESQL_PACKAGE, PGBOUNCER_PACKAGE, MEMCACHED_PACKAGE, RABBITMQ_PACKAGE], (line) => console.log(line))
}

/**
 * Starts three memcached, a RabbitMQ and an S3 server, each private to `directory`, on ports that it remembers. How to
 * stop them is left in `started`, one by one, so that a start cut short stops what there is.
 */
export async function startFullServers(directory: string, started: AsyncDisposableStack): Promise<FullServers> {
  await mkdir(directory, { recursive: true })
  const memoryFile = join(directory, 'ports.json')
  const memory = await recall(memoryFile)
  await endLeftoverServers(directory)

  console.log('Starting memcached …')
  const caches: Memcached[] = []
  for (let number = 0; number < CACHE_SERVERS; number++) {
    const port = memory.memcached[number]
    const cache = await startMemcached({ ...(port !== undefined && { port }), pidFile: cachePids(directory, number), detached: true })
    started.defer(() => cache.stop())
    caches.push(cache)
  }

  console.log('Starting RabbitMQ …')
  const broker = await startRabbitmq({ directory: brokerHome(directory), detached: true })
  started.defer(async () => {
    await broker.stop()
    console.log('RabbitMQ stopped.')
  })

  const s3 = await startS3({ ...(memory.s3 !== undefined && { port: memory.s3 }), directory: objects(directory) })
  started.defer(() => s3.stop())

  await writeFile(memoryFile, JSON.stringify({ memcached: caches.map(({ port }) => port), s3: s3.port } satisfies Memory))
  const servers = caches.map(({ address }) => address)
  return {
    environment: { MEMCACHE_SERVERS: servers.join(','), AMQP_URL: broker.url(), ...s3.environment },
    addresses: [
      { name: 'memcached', address: servers.join(' ') },
      { name: 'RabbitMQ', address: `${LOOPBACK}:${broker.port}` },
      { name: 'S3', address: `http://${LOOPBACK}:${s3.port}/${s3.bucket}` },
    ],
  }
}

/** Ends the servers of `directory` that a start which was killed has left, if any. */
export async function endLeftoverServers(directory: string): Promise<void> {
  for (let number = 0; number < CACHE_SERVERS; number++) await endLeftoverMemcached(cachePids(directory, number))
  await endLeftoverRabbitmq(brokerHome(directory))
}

/** Where objects are kept, for people. */
export function objects(directory: string): string {
  return join(directory, 's3')
}

function brokerHome(directory: string): string {
  return join(directory, 'rabbitmq')
}

function cachePids(directory: string, number: number): string {
  return join(directory, `memcached-${number + 1}.pid`)
}

async function recall(file: string): Promise<Memory> {
  const text = existsSync(file) ? await readFile(file, 'utf8') : ''
  return text === '' ? { memcached: [] } : (JSON.parse(text) as Memory)
}
