import type { Kysely } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import type { CacheConfig } from '../config/config.ts'
import type { Logger } from '../logger/logger.ts'
import type { CacheMetrics } from './cache-metrics.ts'
import { noCache, type Cache } from './cache.ts'
import { detachCache, holdGeneration, TIMING, type GenerationTiming } from './generation.ts'
import { createMemcachedCache } from './memcached-cache.ts'

export interface OpenCacheOptions {
  readonly log: Logger
  readonly clock: Clock
  readonly metrics: CacheMetrics
  /** See `MemcachedOptions.pending`. */
  readonly pending: () => AsyncIterable<readonly string[]>
  readonly timing?: GenerationTiming
}

/**
 * The cache of a process as its configuration says: over memcached, or none. Before it returns, no process reads
 * anything that writes of this one would make stale unseen, so it is to be awaited before the process serves.
 *
 * @param directory the primary of the directory; closed after the cache
 * @throws whatever PostgreSQL says; a memcached that is away is no error
 */
export async function openCache<DB>(
  directory: Kysely<DB>,
  config: CacheConfig | null,
  options: OpenCacheOptions,
): Promise<Cache> {
  const { timing = TIMING, ...rest } = options
  if (config === null) {
    await detachCache(directory, timing)
    return noCache
  }
  const holder = await holdGeneration(directory, { ...config, ...rest, timing })
  const cache = createMemcachedCache({ ...config, ...rest, generation: () => holder.current() })
  return {
    ...cache,
    async close() {
      await cache.close()
      await holder.close()
    },
  }
}
