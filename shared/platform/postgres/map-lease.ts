import type { Kysely } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import type { Logger } from '../logger/logger.ts'
import { readMapVersion, readShardMap, type ShardMap } from './shard-map.ts'

/** Between two looks at the map's version. */
const POLL_MS = 1_000
/**
 * How long a look at the map may be relied on. Whoever moves shards announces so, and waits longer than this, before
 * the first of them changes nodes: by then every process knows, or knows that it does not know.
 */
export const MAP_LEASE_MS = 5_000

/** The shard map of a process, kept fresh. */
export interface MapLease {
  readonly map: ShardMap
  /** True while no shard can have moved that `map` does not call moving. */
  isHeld(): boolean
  /** @throws whatever the directory says; the map is then as before */
  refresh(): Promise<void>
  close(): Promise<void>
}

/**
 * Reads the map and keeps looking for a newer one, a cheap statement each second. As with any lease, time is counted
 * from before the question was asked, on a clock that nobody sets.
 *
 * @param onMap is told of each map, first of all of the first, and whether the lease was held until then, so that no
 *   shard can have gone elsewhere and come back meanwhile; what it throws for the first one is thrown here
 * @throws Error when the directory is unreachable or has no map
 */
export async function openMapLease<DB>(
  directory: Kysely<DB>,
  onMap: (map: ShardMap, isNext: boolean) => void,
  clock: Pick<Clock, 'monotonicMs'>,
  log: Pick<Logger, 'warn'>,
): Promise<MapLease> {
  let heldUntilMs = clock.monotonicMs() + MAP_LEASE_MS
  let map = await readShardMap(directory)
  onMap(map, false)
  const isHeld = (): boolean => clock.monotonicMs() < heldUntilMs

  async function refresh(): Promise<void> {
    const askedMs = clock.monotonicMs()
    if ((await readMapVersion(directory)) !== map.version) {
      const fresh = await readShardMap(directory)
      // An older one: of two refreshes at once the later was answered first, or the directory has lost commits in a
      // failover. Then nothing is relied on until the next change, which has a version that never was.
      if (fresh.version < map.version) return
      onMap(fresh, isHeld())
      map = fresh
    }
    heldUntilMs = Math.max(heldUntilMs, askedMs + MAP_LEASE_MS)
  }

  let polling: Promise<void> | undefined
  const timer = setInterval(() => {
    polling ??= refresh()
      .catch((error: unknown) => log.warn({ err: error }, 'the shard map could not be looked at: reads ask their node'))
      .finally(() => (polling = undefined))
  }, POLL_MS)
  timer.unref()

  return {
    get map() {
      return map
    },
    isHeld,
    refresh,
    async close() {
      clearInterval(timer)
      await polling
    },
  }
}
