import type { Shard } from '#kernel/snowflake.ts'
import type { Context } from './context.ts'
import type { Trx } from './database.ts'

/** What a write needs that makes cached values stale. */
export type WriteContext = Pick<Context, 'router' | 'invalidations'>

/** Names cache keys that the transaction under way makes stale; they are forgotten if it is rolled back. */
export type MarkStale = (keys: readonly string[]) => void

/**
 * Writes to a shard through the router's door, and makes the cache forget what the write has made stale: a row with
 * the keys is part of the transaction, the keys are deleted after the commit, and only then does this settle. So
 * whoever was told of the write finds it, and a crash in between leaves the row to the sweeper. While the cache is off
 * it is `router.write`.
 *
 * @throws whatever `work` throws; nothing is then written
 */
export async function writeThrough<T>(
  { router, invalidations }: WriteContext,
  shard: Shard,
  work: (trx: Trx, stale: MarkStale) => Promise<T>,
): Promise<T> {
  const written = await router.write(shard, async (trx, node) => {
    // Inside, as the door may run the work again, on another node.
    const keys = new Set<string>()
    const result = await work(trx, (named) => named.forEach((key) => keys.add(key)))
    return { result, invalidation: await invalidations.record(trx, [...keys]), node }
  })
  await invalidations.complete(written.node.primary, written.invalidation)
  return written.result
}

/**
 * Counts a change that an earlier try has committed as this request's own, for an answer that was kept: that try may have
 * died before it told the cache or the client. The keys, and the marker of whoever writes, are made stale (again).
 */
export async function retellWrite(context: WriteContext, shard: Shard, keys: readonly string[]): Promise<void> {
  await writeThrough(context, shard, (_trx, stale) => {
    stale(keys)
    return Promise.resolve()
  })
}
