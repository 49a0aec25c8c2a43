import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter } from '#domain/database.ts'

/** Which node each logical shard is on, by name, as one version of the map says. */
export interface ShardPlaces {
  readonly version: bigint
  readonly nodeNames: readonly string[]
}

const known = new WeakMap<AppRouter, ShardPlaces>()

/**
 * Where the shards are as this process knows it.
 *
 * @throws ShardMovedError when one is on a node that is not configured: what is for all nodes cannot be done here
 */
export function placesNow(router: AppRouter): ShardPlaces {
  const version = router.mapVersion
  const last = known.get(router)
  if (last?.version === version) return last
  const nodeNames = Array.from({ length: SHARD_COUNT }, (_, shard) => router.nodeOf(shard).name)
  const places = { version, nodeNames }
  known.set(router, places)
  return places
}

/** The shards that are on another node now, by the directory's map, than they were in `places`. */
export async function movedSince(router: AppRouter, places: ShardPlaces): Promise<Shard[]> {
  await router.refresh()
  if (router.mapVersion === places.version) return []
  const { nodeNames } = placesNow(router)
  return [...nodeNames.keys()].filter((shard) => nodeNames[shard] !== places.nodeNames[shard])
}
