import type { Clock } from '#kernel/clock.ts'
import type { Logger } from '../logger/logger.ts'
import { noCacheMetrics, type CacheMetrics } from './cache-metrics.ts'
import { LIFE_SECONDS_MAX, noCache, type Cache } from './cache.ts'
import type { CacheNode } from './cache-node.ts'
import { createKeyPlaces } from './key-places.ts'
import { createLeasedReads } from './leased-reads.ts'
import { counterOf, encodeIncrement, isOk, type Opaque } from './packets.ts'
import { createRings } from './rings.ts'
import type { CacheServer } from './server-list.ts'
import { wireKey } from './wire-key.ts'

export interface MemcachedOptions {
  readonly servers: readonly CacheServer[]
  /** The other ring of a resize; deletes go to both. */
  readonly nextServers?: readonly CacheServer[]
  /** The generation that keys carry; null while this process must not read or trust the cache. */
  readonly generation: () => bigint | null
  /** The keys that some process may not have deleted everywhere; asked for before a node that failed is read again. */
  readonly pending?: () => AsyncIterable<readonly string[]>
  readonly log: Logger
  readonly clock: Clock
  readonly metrics?: CacheMetrics
  /** For one operation of one node, connecting included. */
  readonly deadlineMs?: number
  readonly waitStepsMs?: readonly number[]
  /** How long a node that failed again soon after it had come back is not read; for tests. */
  readonly relapseStepsMs?: readonly number[]
  /** Where the numbering of requests begins; for tests. */
  readonly firstOpaque?: Opaque
}

/** One late answer costs a request this much, and then its node is left alone. */
export const DEADLINE_MS = 25
const INCREMENT_TRIES = 2
/** A counter outlives its window, whatever the processes' clocks and memcached's whole seconds do. */
const COUNTER_SLACK_SECONDS = 2
/** memcached reads more than 30 days as a date. */
const WINDOW_MS_MAX = 24 * 3_600_000

/** The cache over real memcached servers; it connects when it is first used. */
export function createMemcachedCache(options: MemcachedOptions): Cache {
  const { generation, clock, log, metrics = noCacheMetrics, deadlineMs = DEADLINE_MS } = options
  const { firstOpaque, relapseStepsMs } = options
  const forTests = { ...(firstOpaque !== undefined && { firstOpaque }), ...(relapseStepsMs && { relapseStepsMs }) }
  const nodeOptions = { deadlineMs, log, metrics, written, ...forTests }
  const rings = createRings(options.servers, options.nextServers ?? [], nodeOptions)
  const reads = createLeasedReads({ metrics, ...(options.waitStepsMs && { waitStepsMs: options.waitStepsMs }) })
  const places = createKeyPlaces(rings)
  let lastGeneration: bigint | null = null

  /** The generation for deletes: an old one too, as others may still read it. */
  function deletedGeneration(): bigint | null {
    return (lastGeneration = generation() ?? lastGeneration)
  }

  async function deleteOne(key: string, of: bigint): Promise<boolean> {
    const wire = wireKey(valuePrefix(of), key)
    const confirmed = await Promise.all(rings.nodesOf(key).map((node) => node.delete(wire)))
    return confirmed.every(Boolean)
  }

  /** @throws Error without a generation, or one and the same: nobody can say then under which names keys are read */
  async function* written(node: CacheNode): AsyncGenerator<readonly string[]> {
    if (options.pending === undefined) return
    const of = generation()
    for await (const keys of options.pending()) {
      if (of === null || generation() !== of) break
      yield keys.filter((key) => rings.nodesOf(key).includes(node)).map((key) => wireKey(valuePrefix(of), key))
    }
    if (of === null || generation() !== of) throw new Error('the generation is not known, or has changed')
  }

  const cache: Cache = {
    isEnabled: true,
    async readMany(keys, fill, { lifeMs = LIFE_SECONDS_MAX * 1_000 } = {}) {
      const now = generation()
      if (now === null) return noCache.readMany(keys, fill)
      lastGeneration = now
      const placed = places.placesOf(valuePrefix(now), keys)
      const lifeSeconds = Math.min(Math.max(Math.ceil(lifeMs / 1_000), 1), LIFE_SECONDS_MAX)
      return reads.read(placed, fill, lifeSeconds)
    },
    async read(key, fill, readOptions) {
      const [found] = await cache.readMany([key], async () => new Map([[key, await fill()]]), readOptions)
      return found
    },
    async delete(keys) {
      const distinct = [...new Set(keys)]
      const of = deletedGeneration()
      const confirmed = of === null ? [] : await Promise.all(distinct.map((key) => deleteOne(key, of)))
      if (of !== null && generation() === of) return distinct.filter((_, at) => confirmed[at] !== true)
      // Without a generation of our own that is good now, another one may be in use: then nothing is confirmed.
      for (const key of distinct) for (const node of rings.nodesOf(key)) node.distrust()
      return distinct
    },
    async increment(key, windowMs, by = 1) {
      if (!(windowMs > 0 && windowMs <= WINDOW_MS_MAX)) throw new RangeError(`a window of ${windowMs} ms`)
      const wire = wireKey('c:', `${Math.floor(clock.nowMs() / windowMs)}:${windowMs}:${key}`)
      const lifeSeconds = Math.ceil(windowMs / 1_000) + COUNTER_SLACK_SECONDS
      const node = rings.nodeOf(wire)
      // Of two that find no counter and make one, memcached refuses the second, who then finds the first one's.
      for (let tries = 0; tries < INCREMENT_TRIES; tries++) {
        const reply = await node.command((opaque) => encodeIncrement(wire, by, lifeSeconds, opaque))
        if (reply === undefined) return undefined
        if (isOk(reply.message)) return counterOf(reply.message)
      }
      return undefined
    },
    idle: () => reads.idle(),
    async close() {
      await reads.idle()
      rings.close()
    },
  }
  return cache
}

function valuePrefix(generation: bigint): string {
  return `v${generation}:`
}
