import { sql } from 'kysely'
import t from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { noCache } from '#platform/memcached/cache.ts'
import { createInvalidations, createSweeper, pendingKeys, sweepInvalidations } from '#platform/memcached/invalidations.ts'
import { openNode } from '../outbox/fixture.ts'
import type { TestNode } from '../outbox/fixture.ts'
import { openTestCache, serverAt, startTestMemcached, startTestMemcacheds } from '../../support/memcached.ts'

const log = createLogger({ process: 'test', level: 'silent' })
const bytes = (text: string): Buffer => Buffer.from(text)

async function rowsLeft(node: TestNode): Promise<number> {
  const { rows } = await sql<{ count: number }>`select count(*)::int as count from cache_invalidations`.execute(node.primary)
  return rows[0]?.count ?? -1
}

/** What a sweep regards as left behind. */
async function age(node: TestNode): Promise<void> {
  await sql`update cache_invalidations set recorded_at = recorded_at - interval '1 minute'`.execute(node.primary)
}

t.test('a change forgets its keys, and its row goes', async (t) => {
  const node = await openNode(t)
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  const invalidations = createInvalidations(cache, log)
  await cache.read('photo:1', async () => bytes('old'))
  await cache.idle()

  const made = await Promise.all(
    Array.from({ length: 20 }, () => node.primary.transaction().execute((trx) => invalidations.record(trx, ['photo:1', 'photo:2']))),
  )
  t.equal(await rowsLeft(node), 20)
  await Promise.all(made.map((one) => invalidations.complete(node.primary, one)))
  t.same(await cache.read('photo:1', async () => bytes('new')), bytes('new'))
  await invalidations.idle()
  t.equal(await rowsLeft(node), 0)
})

t.test('a transaction that rolls back leaves no row', async (t) => {
  const node = await openNode(t)
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  const invalidations = createInvalidations(cache, log)
  await t.rejects(
    node.primary.transaction().execute(async (trx) => {
      await invalidations.record(trx, ['photo:1'])
      throw new Error('no')
    }),
  )
  t.equal(await rowsLeft(node), 0)
})

t.test('after a crash between commit and delete the sweeper deletes', async (t) => {
  const node = await openNode(t)
  const { cache } = openTestCache(t, [(await startTestMemcached(t)).server])
  await cache.read('photo:1', async () => bytes('old'))
  await cache.idle()
  await node.primary.transaction().execute((trx) => createInvalidations(cache, log).record(trx, ['photo:1']))

  t.match(await sweepInvalidations(node.primary, cache), { found: 0, swept: 0 }, 'it may still be in hand')
  await age(node)
  t.match(await sweepInvalidations(node.primary, cache), { found: 1, swept: 1 })
  t.same(await cache.read('photo:1', async () => bytes('new')), bytes('new'))
  t.equal(await rowsLeft(node), 0)
})

t.test('rows stay while a server does not confirm, and do not hold up those of the others', async (t) => {
  const node = await openNode(t)
  const [sick, well] = await startTestMemcacheds(t, 2)
  if (sick === undefined || well === undefined) throw new Error('two were asked for')
  const { cache } = openTestCache(t, [sick.server, well.server], { deadlineMs: 200 })
  const invalidations = createInvalidations(cache, log)
  const keys = Array.from({ length: 40 }, (_, at) => `photo:${at}`)
  sick.freeze()
  t.teardown(() => sick.thaw())
  for (const key of keys) await invalidations.complete(node.primary, await invalidations.record(node.primary, [key]))
  await invalidations.idle()
  const left = await rowsLeft(node)
  t.ok(left > 0 && left < keys.length, `${left} of ${keys.length}`)
  await age(node)
  t.match(await sweepInvalidations(node.primary, cache), { found: left, swept: 0 })

  await sick.restart()
  let swept = 0
  while (swept < left) swept += (await sweepInvalidations(node.primary, cache)).swept
  t.equal(await rowsLeft(node), 0)
})

t.test('a row whose values have all expired goes without a server, and is nobody\'s to redo', async (t) => {
  const node = await openNode(t)
  const { cache } = openTestCache(t, [serverAt(1)])
  const invalidations = createInvalidations(cache, log)
  for (const key of ['expired', 'live']) await invalidations.record(node.primary, [key])
  await age(node)
  await sql`update cache_invalidations set recorded_at = now() - interval '16 minutes' where keys = '{expired}'`.execute(node.primary)
  const pending = []
  for await (const keys of pendingKeys([node.primary])) pending.push(...keys)
  t.same(pending, ['live'])
  t.match(await sweepInvalidations(node.primary, cache), { found: 2, swept: 1 })
  t.equal(await rowsLeft(node), 1)
})

t.test('what a server that is away has not confirmed costs the others nothing, and newer rows are swept', async (t) => {
  const node = await openNode(t)
  const well = await startTestMemcached(t)
  const { cache, counts } = openTestCache(t, [well.server, serverAt(1)])
  const keys = Array.from({ length: 40 }, (_, at) => `photo:${at}`)
  const keep = async (): Promise<void> => {
    await cache.readMany(keys, async (missing) => new Map(missing.map((key) => [key, bytes('v')])))
    await cache.idle()
  }
  const record = async (): Promise<void> => {
    await createInvalidations(cache, log).record(node.primary, keys)
    await age(node)
  }
  const clock = manualClock(0)
  const sweeper = createSweeper(cache, clock)
  await record()
  t.same(await sweeper.sweep(node.primary), { found: 1, swept: 0 })
  await keep()
  t.same(await sweeper.sweep(node.primary), { found: 0, swept: 0 })
  clock.advance(3_000)
  t.same(await sweeper.sweep(node.primary), { found: 1, swept: 0 }, 'it is tried again')
  const { hit } = counts.reads
  await keep()
  t.ok(counts.reads.hit > hit, 'and what was confirmed is not deleted again')
  await record()
  t.same(await sweeper.sweep(node.primary), { found: 1, swept: 0 }, 'the newer one')
})

t.test('a process that may not know the generation confirms nothing', async (t) => {
  const memcached = await startTestMemcached(t)
  let generation: bigint | null = 1n
  const { cache } = openTestCache(t, [memcached.server], { generation: () => generation })
  await cache.read('k', async () => bytes('v'))
  await cache.idle()
  generation = null
  t.same(await cache.delete(['k']), ['k'])
  let reads = 0
  const count = async (): Promise<Buffer> => bytes(`read ${++reads}`)
  await cache.read('k', count)
  await cache.read('k', count)
  t.equal(reads, 2, 'and keeps nothing')
})

t.test('with the lever off nothing is recorded', async (t) => {
  const node = await openNode(t)
  const invalidations = createInvalidations(noCache, log)
  t.equal(await invalidations.record(node.primary, ['k']), undefined)
  await invalidations.complete(node.primary, undefined)
  t.match(await sweepInvalidations(node.primary, noCache), { found: 0, swept: 0 })
  t.equal(await rowsLeft(node), 0)
})
