import type { Kysely } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import type { CacheConfig } from '../config/config.ts'
import type { Logger } from '../logger/logger.ts'
import { noCache, type Cache } from './cache.ts'
import { detachCache, holdGeneration } from './generation.ts'
import { createMemcachedCache } from './memcached-cache.ts'
import type { CacheMetrics } from './cache-metrics.ts'

/**
 * The cache of one process, as configured: over memcached once nobody reads what this process would not delete; none
 * when the lever is off, once nobody reads what this process would make stale.
 *
 * @param options.directory where the generation is kept
 * @throws whatever PostgreSQL says
 */
export async function openCache<DB>(
  config: CacheConfig | null,
  { directory, log, clock, metrics }: {
    readonly directory: Kysely<DB>
    readonly log: Logger
    readonly clock: Clock
    readonly metrics?: CacheMetrics
  },
): Promise<Cache> {
  if (config === null) {
    await detachCache(directory)
    return noCache
  }
  const holder = await holdGeneration(directory, { ...config, log, clock })
  const cache = createMemcachedCache({
    servers: config.servers,
    nextServers: config.nextServers,
    generation: () => holder.current(),
    log,
    clock,
    ...(metrics !== undefined && { metrics }),
  })
  return {
    ...cache,
    async close() {
      await cache.close()
      await holder.close()
    },
  }
}
