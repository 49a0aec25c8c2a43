import { connect } from 'node:net'
import { once } from 'node:events'
import { Client, Utils } from 'memjs'
import { systemClock } from '#kernel/clock.ts'
import { createLogger } from '#platform/logger/logger.ts'
import type { CacheMetrics } from '#platform/memcached/cache-metrics.ts'
import { seal } from '#platform/memcached/envelope.ts'
import { createMemcachedCache } from '#platform/memcached/memcached-cache.ts'
import { wireKey } from '#platform/memcached/wire-key.ts'
import { startMemcached } from '../stack/memcached.ts'
import { compareRounds, printRates, ratioBetween, timeRate } from './rounds.ts'

/**
 * The 21 keys of a feed page, read from one memcached on one connection: by our cache, by memjs with a get for each,
 * and by a socket that does no more than write packets made beforehand and count the bytes that come back.
 */
const KEYS_PER_PAGE = 21
const PAGES = 4_000
const PAGES_AT_ONCE = 10
const FRAGMENT_BYTES = 700
const GENERATION = 1n
const GETKQ = 0x0d
const NOOP = 0x0a

const CEILING = 'packets made beforehand, bytes counted (ceiling)'
const OURS = 'one multi-get per tick, checked'
const MEMJS = 'memjs, a get for each key'

/** Every page of a group has photos of its own: one that several ask for would travel once, and flatter us. */
const pages = Array.from({ length: PAGES_AT_ONCE }, (_, page) =>
  Array.from({ length: KEYS_PER_PAGE }, (_, at) => `photo:${1_000_000_000_000 + page * KEYS_PER_PAGE + at}`),
)
const onWire = (keys: readonly string[]): string[] => keys.map((key) => wireKey(`v${GENERATION}:`, key))
const fragment = Buffer.alloc(FRAGMENT_BYTES, 'x')

let commands = 0
let multiGets = 0
const metrics: CacheMetrics = {
  read() {},
  commands: (count) => (commands += count),
  multiGet: () => multiGets++,
  failure() {},
  breaker() {},
}

const server = await startMemcached()
const client = Client.create(server.address, { timeout: 5 })
const cache = createMemcachedCache({
  servers: [{ name: server.address, host: '127.0.0.1', port: server.port, credentials: null }],
  generation: () => GENERATION,
  log: createLogger({ process: 'bench', level: 'warn' }),
  clock: systemClock,
  metrics,
  deadlineMs: 5_000,
})
for (const key of onWire(pages.flat())) await client.set(key, seal(key, { kind: 'value', bytes: fragment }), { expires: 600 })

const never = (): never => {
  throw new Error('everything is in the cache')
}

async function readOurs(keys: readonly string[]): Promise<void> {
  const found = await cache.readMany(keys, never)
  if (found.includes(undefined)) throw new Error('a key is missing')
}

async function readByMemjs(keys: readonly string[]): Promise<void> {
  const found = await Promise.all(onWire(keys).map((key) => client.get(key)))
  if (found.some(({ value }) => value === null)) throw new Error('memjs missed')
}

/** Runs pages in groups that begin in the same tick, as requests do that arrive together. */
async function inGroups(read: (keys: readonly string[]) => Promise<void>): Promise<void> {
  for (let done = 0; done < PAGES; done += PAGES_AT_ONCE) {
    await Promise.all(pages.map(read))
  }
}

/** A socket that writes a group's packets and waits for as many bytes as their answers have. */
async function openCeiling(): Promise<{ run: () => Promise<void>; close: () => void }> {
  const wireKeys = onWire(pages.flat())
  const gets = wireKeys.map((key) => Utils.makeRequestBuffer(GETKQ, key, '', '', 0))
  const group = Buffer.concat([...gets, Utils.makeRequestBuffer(NOOP, '', '', '', 0)])
  const header = 24
  const hitBytes = header + 4 + seal('', { kind: 'value', bytes: fragment }).length
  const answerBytes = wireKeys.reduce((sum, key) => sum + hitBytes + key.length, header)
  const socket = connect(server.port, '127.0.0.1').setNoDelay(true)
  await once(socket, 'connect')
  let left = 0
  let resolve: (value: undefined) => void
  socket.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left === 0) resolve(undefined)
  })
  return {
    async run() {
      for (let done = 0; done < PAGES; done += PAGES_AT_ONCE) {
        const answered = Promise.withResolvers<undefined>()
        resolve = answered.resolve
        left = answerBytes
        socket.write(group)
        await answered.promise
      }
    },
    close: () => socket.destroy(),
  }
}

const ceiling = await openCeiling()
const items = PAGES * KEYS_PER_PAGE
const rates = await compareRounds({
  [CEILING]: () => timeRate(items, ceiling.run),
  [OURS]: () => timeRate(items, () => inGroups(readOurs)),
  [MEMJS]: () => timeRate(items, () => inGroups(readByMemjs)),
})
printRates('keys/s, pages of 21, 10 pages at once', rates)
console.log(`ours is ${ratioBetween(rates, OURS, MEMJS).toFixed(1)} times memjs`)

commands = 0
multiGets = 0
await readOurs(pages[0] ?? [])
console.log(`one page alone: ${commands} commands in ${multiGets} write, where memjs has ${KEYS_PER_PAGE} writes`)
if (commands !== KEYS_PER_PAGE + 1 || multiGets !== 1) process.exitCode = 1

ceiling.close()
client.close()
await cache.close()
await server.stop()
