import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import t from 'tap'
import type { Test } from 'tap'
import { createLogger } from '#platform/logger/logger.ts'
import type { Cache } from '#platform/memcached/cache.ts'
import { createInvalidations, pendingKeys, sweepInvalidations } from '#platform/memcached/invalidations.ts'
import { openNode } from '../integration/outbox/fixture.ts'
import { startFaultProxy } from '../support/fault-proxy.ts'
import { openTestCache, serverAt, startTestMemcached, type CacheCounts } from '../support/memcached.ts'

/** Row 12 of the faults: a delete that a sick server missed. Whoever was told of the write never reads from before it. */

const PAUSE_MS = 1
const log = createLogger({ process: 'test', level: 'silent' })

async function keepOld(cache: Cache): Promise<void> {
  await cache.read('photo:1', async () => Buffer.from('old'))
  await cache.idle()
}

/** Reads until the cache itself has answered `hits` times. @returns what was read, each once */
async function readUntilKept(cache: Cache, counts: CacheCounts, hits = 3): Promise<string[]> {
  const seen = new Set<string>()
  for (const until = counts.reads.hit + hits; counts.reads.hit < until; ) {
    seen.add(String(await cache.read('photo:1', async () => Buffer.from('new'))))
    await cache.idle()
    await wait(PAUSE_MS)
  }
  return [...seen]
}

async function proxied(t: Test) {
  const memcached = await startTestMemcached(t)
  const proxy = await startFaultProxy(t, memcached.port)
  return { proxy, server: serverAt(proxy.port) }
}

t.test('a connection that dies under a delete: another one confirms it before the write is answered', async (t) => {
  const { proxy, server } = await proxied(t)
  const { cache, counts } = openTestCache(t, [server])
  await keepOld(cache)
  const deleting = cache.delete(['photo:1', 'photo:2', 'photo:3'])
  proxy.set({ kind: 'refuse' })
  proxy.set({ kind: 'none' })
  t.same(await deleting, [])
  t.equal(proxy.connections, 2, 'one for all of them')
  t.same(await readUntilKept(cache, counts), ['new'])
})

t.test('a server that is too slow for readers confirms a delete before the write is answered', async (t) => {
  const { proxy, server } = await proxied(t)
  const [writer, reader] = [openTestCache(t, [server], { deadlineMs: 200 }), openTestCache(t, [server])]
  await keepOld(writer.cache)
  proxy.set({ kind: 'latency', ms: 250 })
  t.same(await writer.cache.delete(['photo:1']), [])
  proxy.set({ kind: 'none' })
  t.equal(String(await reader.cache.read('photo:1', async () => Buffer.from('new'))), 'new', 'for those who saw no failure, too')
  t.notOk(writer.counts.failures.includes('delete'))
})

t.test('deletes go to a server that is left alone because it failed again soon after its return', async (t) => {
  const { proxy, server } = await proxied(t)
  const [writer, reader] = [openTestCache(t, [server], { relapseStepsMs: [0, 3_600_000] }), openTestCache(t, [server])]
  for (const value of ['photo:2', 'photo:3']) {
    await readUntilKept(writer.cache, writer.counts)
    const deleting = writer.cache.delete([value])
    proxy.set({ kind: 'refuse' })
    proxy.set({ kind: 'none' })
    t.same(await deleting, [])
  }
  t.same(writer.counts.breaker, [true, false, true])
  await keepOld(reader.cache)
  t.same(await writer.cache.delete(['photo:1']), [])
  t.equal(String(await reader.cache.read('photo:1', async () => Buffer.from('new'))), 'new')
})

t.test('a server that answers nothing for a while is not read again by who could not delete there', async (t) => {
  const { proxy, server } = await proxied(t)
  const { cache, counts } = openTestCache(t, [server], { deadlineMs: 50 })
  await keepOld(cache)
  proxy.set({ kind: 'black-hole' })
  t.same(await cache.delete(['photo:1']), ['photo:1'])
  t.same(await cache.delete(['photo:2']), ['photo:2'], 'nobody waits for it now')
  t.same(counts.failures.filter((reason) => reason === 'delete'), ['delete', 'delete'])
  proxy.set({ kind: 'none' })
  t.same(await readUntilKept(cache, counts), ['new'])
})

t.test('nor by another process that saw it fail, though the writer is dead and nobody sweeps', async (t) => {
  const db = await openNode(t)
  const { proxy, server } = await proxied(t)
  const options = { deadlineMs: 50, pending: () => pendingKeys([db.primary]) }
  const [writer, reader] = [openTestCache(t, [server], options), openTestCache(t, [server], options)]
  await keepOld(writer.cache)
  const invalidations = createInvalidations(writer.cache, log)
  proxy.set({ kind: 'black-hole' })
  await invalidations.complete(db.primary, await invalidations.record(db.primary, ['photo:1']))
  await writer.cache.close()
  t.equal(String(await reader.cache.read('photo:1', async () => Buffer.from('new'))), 'new')
  proxy.set({ kind: 'none' })
  t.same(await readUntilKept(reader.cache, reader.counts), ['new'])
})

t.test('nor by a process that did not know the generation when it deleted', async (t) => {
  const db = await openNode(t)
  const { server } = await proxied(t)
  let generation: bigint | null = null
  const writer = openTestCache(t, [server], { generation: () => generation, pending: () => pendingKeys([db.primary]) })
  await keepOld(openTestCache(t, [server]).cache)
  const invalidations = createInvalidations(writer.cache, log)
  await invalidations.complete(db.primary, await invalidations.record(db.primary, ['photo:1']))
  generation = 1n
  t.same(await readUntilKept(writer.cache, writer.counts), ['new'])
})

t.test('after a long outage with thousands of missed deletes it is read again, and no row is left', async (t) => {
  const db = await openNode(t)
  const { proxy, server } = await proxied(t)
  const { cache, counts } = openTestCache(t, [server], { deadlineMs: 200, pending: () => pendingKeys([db.primary]) })
  await keepOld(cache)
  proxy.set({ kind: 'refuse' })
  await sql`insert into cache_invalidations (keys, recorded_at)
    select array['photo:' || at], now() - interval '1 minute' from generate_series(1, 6000) as at`.execute(db.primary)
  t.match(await sweepInvalidations(db.primary, cache), { found: 6_000, swept: 0 })
  proxy.set({ kind: 'none' })
  t.same(await readUntilKept(cache, counts), ['new'])
  t.match(await sweepInvalidations(db.primary, cache), { found: 6_000, swept: 6_000 })
})
