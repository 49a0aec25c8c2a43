import t from 'tap'
import type { Cache } from '#platform/memcached/cache.ts'
import type { CacheServer } from '#platform/memcached/server-list.ts'
import { openTestCache, startTestMemcacheds } from '../support/memcached.ts'

/** Row 13 of the faults: a fourth cache node comes, and goes again, under writes. */

const KEYS = Array.from({ length: 2_000 }, (_, at) => `photo:${at}`)
const MOVED_SHARE_MAX = 0.35

/** The database: a version per key. */
const versions = new Map(KEYS.map((key) => [key, 0]))

async function fill(keys: string[]): Promise<Map<string, Buffer>> {
  return new Map(keys.map((key) => [key, Buffer.from(String(versions.get(key)))]))
}

async function write(cache: Cache, keys: readonly string[]): Promise<string[]> {
  for (const key of keys) versions.set(key, (versions.get(key) ?? 0) + 1)
  return cache.delete(keys)
}

/** The keys whose version the cache does not tell as it is now. */
async function stale(cache: Cache): Promise<string[]> {
  const found = await cache.readMany(KEYS, fill)
  await cache.idle()
  return KEYS.filter((key, at) => found[at]?.toString() !== String(versions.get(key)))
}

/** Every `of`th key, beginning with `from`. */
function some(from: number, of: number): string[] {
  return KEYS.filter((_, at) => at % of === from)
}

t.test('3 to 4 nodes and back moves a third of the keys and shows nothing old', async (t) => {
  const servers = (await startTestMemcacheds(t, 4)).map(({ server }) => server)
  const three = servers.slice(0, 3)
  const process = (ring: CacheServer[], other: CacheServer[]) => openTestCache(t, ring, { nextServers: other })
  const before = process(three, servers)
  const after = process(servers, three)

  // The first setting: reads of three, deletes on both.
  t.same(await stale(before.cache), [])
  t.same(await write(before.cache, some(0, 5)), [])
  t.same(await stale(before.cache), [])

  // The second setting, process by process: some read three nodes and some four, and all write.
  t.same(await stale(after.cache), [])
  const moved = after.counts.reads.filled / KEYS.length
  t.ok(moved > 0 && moved <= MOVED_SHARE_MAX, `${(moved * 100).toFixed(1)} % of the keys moved`)
  for (let round = 0; round < 5; round++) {
    const writer = round % 2 === 0 ? before.cache : after.cache
    t.same(await write(writer, some(round, 7)), [])
    t.same(await stale(before.cache), [])
    t.same(await stale(after.cache), [])
  }

  // And back: what three nodes kept meanwhile is as new as the rest.
  t.same(await write(after.cache, some(3, 4)), [])
  const back = process(three, servers)
  t.same(await stale(back.cache), [])
  const movedBack = back.counts.reads.filled / KEYS.length
  t.ok(movedBack <= MOVED_SHARE_MAX, `${(movedBack * 100).toFixed(1)} % had to be read again`)
})
