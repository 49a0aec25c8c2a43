import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import t from 'tap'
import type { Test } from 'tap'
import { manualClock, systemClock } from '#kernel/clock.ts'
import type { Clock } from '#kernel/clock.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { detachCache, holdGeneration } from '#platform/memcached/generation.ts'
import type { GenerationHolder, GenerationTiming } from '#platform/memcached/generation.ts'
import { openNode } from '../outbox/fixture.ts'
import type { TestNode } from '../outbox/fixture.ts'
import { serverAt } from '../../support/memcached.ts'

/** Visits are the test's own; nobody is overdue while it runs. */
const TIMING: GenerationTiming = { visitEveryMs: 3_600_000, permitMs: 300_000, overdueMs: 600_000, preparedMs: 660_000 }
const OVERDUE_AT_ONCE: GenerationTiming = { ...TIMING, overdueMs: 0 }

interface Part {
  ring: number[]
  other?: number[]
  attachMs?: number
  clock?: Clock
  timing?: GenerationTiming
}

/** A process with the cache, by the ports of its rings; signed off at teardown. */
async function join(t: Test, node: TestNode, { ring, other = [], attachMs = 0, clock = systemClock, timing = TIMING }: Part): Promise<GenerationHolder> {
  const holder = await holdGeneration(node.primary, {
    servers: ring.map((port) => serverAt(port)),
    nextServers: other.map((port) => serverAt(port)),
    attachMs,
    clock,
    log: createLogger({ process: 'test', level: 'silent' }),
    timing,
  })
  t.teardown(() => holder.close())
  return holder
}

/** Resolves to 'waiting' unless the promise settles first; some turns of a pool's round trips are enough. */
async function settledSoon(promise: Promise<unknown>): Promise<'settled' | 'waiting'> {
  return Promise.race([promise.then(() => 'settled' as const), wait(300).then(() => 'waiting' as const)])
}

async function letPassPreparation(node: TestNode): Promise<void> {
  await sql`update cache_state set other_since = other_since - interval '661 seconds'`.execute(node.primary)
}

t.test('processes share a generation, through restarts of them all', async (t) => {
  const node = await openNode(t)
  const one = await join(t, node, { ring: [1, 2, 3] })
  const two = await join(t, node, { ring: [3, 2, 1] })
  t.equal(one.current(), 1n)
  t.equal(two.current(), 1n)
  await one.close()
  await two.close()
  t.equal(one.current(), null)
  t.equal((await join(t, node, { ring: [1, 2, 3] })).current(), 1n)
})

t.test('a process without the cache starts only when nobody reads it, and the next to switch it on begins anew', async (t) => {
  const node = await openNode(t)
  const reader = await join(t, node, { ring: [1] })
  const detached = detachCache(node.primary, TIMING)
  t.equal(await settledSoon(detached), 'waiting')
  t.equal(reader.current(), 1n, 'until its next visit it may read')
  await reader.visit()
  t.equal(reader.current(), null)
  await detached
  await reader.visit()
  t.equal(reader.current(), null, 'and not by itself again')
  t.equal((await join(t, node, { ring: [1] })).current(), 3n)
})

t.test('a reader that was killed holds up a detach only until its permit must be over', async (t) => {
  const node = await openNode(t)
  const clock = manualClock(0)
  const killed = await join(t, node, { ring: [1], clock })
  clock.advance(TIMING.permitMs - 1)
  t.equal(killed.current(), 1n)
  clock.advance(1)
  t.equal(killed.current(), null, 'nor may a process that was only paused go on reading')
  await detachCache(node.primary, OVERDUE_AT_ONCE)
})

t.test('after it was switched on again the cache is not read until processes without it have gone', async (t) => {
  const node = await openNode(t)
  await detachCache(node.primary, TIMING)
  const early = await join(t, node, { ring: [1], attachMs: 60_000 })
  t.equal(early.current(), null)
  const late = await join(t, node, { ring: [1], attachMs: 60_000 })
  t.equal(late.current(), null)
  await sql`update cache_state set usable_from = now()`.execute(node.primary)
  for (const holder of [early, late]) await holder.visit()
  t.equal(early.current(), 1n)
  t.equal(late.current(), 1n)
})

t.test('a resize in two settings keeps the generation; the switch back does too', async (t) => {
  const node = await openNode(t)
  const [three, four] = [[1, 2, 3], [1, 2, 3, 4]]
  const before = await join(t, node, { ring: three })
  const prepared = await join(t, node, { ring: three, other: four })
  await letPassPreparation(node)
  await before.visit()
  await before.close()
  await letPassPreparation(node)

  const switched = await join(t, node, { ring: four, other: three })
  t.equal(switched.current(), 1n)
  await prepared.visit()
  t.equal(prepared.current(), 1n, 'both delete on both rings, so both may read')
  const back = await join(t, node, { ring: three, other: four })
  t.equal(back.current(), 1n)
})

t.test('a ring on which not all have deleted for long enough begins a new generation', async (t) => {
  const node = await openNode(t)
  const old = await join(t, node, { ring: [1, 2, 3] })
  const prepared = await join(t, node, { ring: [1, 2, 3], other: [1, 2, 3, 4] })
  await letPassPreparation(node)
  await old.visit()
  const switching = join(t, node, { ring: [1, 2, 3, 4], other: [1, 2, 3] })
  t.equal(await settledSoon(switching), 'waiting', 'somebody reads the old generation')
  await old.visit()
  await prepared.visit()
  const switched = await switching
  t.equal(old.current(), null)
  t.equal(switched.current(), null, 'somebody does not delete on the new ring')
  await old.close()
  await switched.visit()
  t.equal(switched.current(), 2n)
})

t.test('a ring that is dropped is read by nobody before the first process stops deleting on it', async (t) => {
  const node = await openNode(t)
  const old = await join(t, node, { ring: [1], other: [2] })
  await letPassPreparation(node)
  await join(t, node, { ring: [2], other: [1] })
  t.equal(old.current(), 1n)
  const dropping = join(t, node, { ring: [2] })
  t.equal(await settledSoon(dropping), 'waiting')
  await old.visit()
  t.equal(old.current(), null)
  t.equal((await dropping).current(), 1n)
})

t.test('with a directory that is away the permit runs out, and comes back with it', async (t) => {
  const node = await openNode(t)
  const clock = manualClock(0)
  const holder = await join(t, node, { ring: [1], clock })
  await sql`alter table cache_state rename to away`.execute(node.primary)
  await t.rejects(holder.visit())
  t.equal(holder.current(), 1n)
  clock.advance(TIMING.permitMs)
  t.equal(holder.current(), null)
  await sql`alter table away rename to cache_state`.execute(node.primary)
  await holder.visit()
  t.equal(holder.current(), 1n)
})
