import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import type { Cache } from '#platform/memcached/cache.ts'
import { DEADLINE_MS } from '#platform/memcached/memcached-cache.ts'
import { startFaultProxy } from '../support/fault-proxy.ts'
import type { Fault, FaultProxy } from '../support/fault-proxy.ts'
import { openTestCache, serverAt, startTestMemcached } from '../support/memcached.ts'
import type { CacheCounts, TestCache } from '../support/memcached.ts'

/** Row 12 of the faults: a memcached that freezes, hangs up, breaks off in mid-value, drips or restarts. */

const BEFORE_MS = 1_000
const FROZEN_MS = 6_000
const FAULTY_MS = 1_000
const RESTARTS = 4
const PACE_MS = 2
const READS_PER_WRITE = 4
const ADDED_P99_MS_MAX = 50
/** Sizes on both sides of a socket's chunk, and of a header. */
const SIZES = [0, 5, 24, 700, 9_000, 70_000, 200_000]

/** The value of the steady reads, and bytes of answers after which an end falls into the middle of it. */
const HOT = Buffer.alloc(700, 'hot|')
const MID_VALUE_BYTES = 300

/** A little more than an answer with all of them. */
const ANSWER_BYTES = SIZES.reduce((sum, size) => sum + size + 100, 0)
const KEYS = SIZES.map((size) => `value of ${size}`)
const VALUES = new Map(KEYS.map((key, at) => [key, Buffer.alloc(SIZES[at] ?? 0, `${key}|`)]))

/** Reads every key, as a page does, and compares every byte. */
async function readRight(cache: Cache): Promise<boolean> {
  const found = await cache.readMany(KEYS, async (missing) => new Map(missing.map((key) => [key, VALUES.get(key) ?? null])))
  return KEYS.every((key, at) => found[at]?.equals(VALUES.get(key) ?? Buffer.alloc(1)))
}

/** Reads until the cache alone answers. */
async function untilCached(cache: Cache, counts: CacheCounts): Promise<void> {
  for (;;) {
    const hits = counts.reads.hit
    await cache.idle()
    await readRight(cache)
    if (counts.reads.hit - hits === KEYS.length) return
    await wait(PACE_MS)
  }
}

interface Setup {
  cache: Cache
  counts: CacheCounts
  proxy: FaultProxy
}

async function setUp(t: Test, deadlineMs: number): Promise<Setup> {
  const memcached = await startTestMemcached(t)
  const proxy = await startFaultProxy(t, memcached.port)
  const { cache, counts } = openTestCache(t, [serverAt(proxy.port)], { deadlineMs })
  await untilCached(cache, counts)
  return { cache, counts, proxy }
}

interface Load {
  /** The 99th percentile of how long a read or a write took. */
  p99Ms: number
  maxMs: number
  wrong: number
}

/** Steady single reads, and deletes as of writes among them, until `over` settles. */
async function load(cache: Cache, over: Promise<unknown>): Promise<Load> {
  const state = { isOver: false }
  const ended = over.finally(() => (state.isOver = true))
  ended.catch(() => undefined)
  const tookMs: number[] = []
  const requests: Promise<void>[] = []
  let wrong = 0
  const timed = async <T>(request: Promise<T>): Promise<T> => {
    const startMs = performance.now()
    return request.finally(() => tookMs.push(performance.now() - startMs))
  }
  const read = async (): Promise<void> => {
    const found = await timed(cache.read('hot', async () => HOT))
    if (found?.equals(HOT) !== true) wrong++
  }
  const write = async (): Promise<void> => {
    await timed(cache.delete(['written']))
  }
  while (!state.isOver) {
    requests.push(requests.length % (READS_PER_WRITE + 1) === READS_PER_WRITE ? write() : read())
    await wait(PACE_MS)
  }
  await Promise.all([ended, ...requests])
  const sorted = tookMs.toSorted((a, b) => a - b)
  return { p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? Infinity, maxMs: sorted.at(-1) ?? Infinity, wrong }
}

/** One fault under the same load: every read is right, and few notice. */
async function assertAdded(t: Test, name: string, { cache, counts }: TestCache, before: Load, over: Promise<unknown>): Promise<void> {
  const breakers = counts.breaker.length
  const during = await load(cache, over)
  t.equal(during.wrong, 0, name)
  t.ok(counts.breaker.length > breakers, `${name}: it was noticed`)
  const addedMs = during.p99Ms - before.p99Ms
  t.ok(addedMs <= ADDED_P99_MS_MAX, `${name}: added ${addedMs.toFixed(1)} ms at the 99th percentile, ${during.maxMs.toFixed(1)} ms at most`)
}

t.test('frozen for 6 s, stopped, and restarted under steady load: one late answer, then nobody waits, and it comes back', async (t) => {
  const memcached = await startTestMemcached(t)
  const test = openTestCache(t, [memcached.server], { deadlineMs: DEADLINE_MS })
  const { cache, counts } = test
  const before = await load(cache, wait(BEFORE_MS))
  const commandsBefore = counts.commands

  memcached.freeze()
  await assertAdded(t, 'frozen', test, before, wait(FROZEN_MS))
  memcached.thaw()
  // The reads of one deadline, and a get is a key and a no-op; without the breaker there would be thousands.
  t.ok(counts.commands - commandsBefore < 150, `${counts.commands - commandsBefore} commands were sent to a frozen server`)
  await untilCached(cache, counts)

  await assertAdded(t, 'stopped', test, before, memcached.kill().then(() => wait(FAULTY_MS)))
  await memcached.restart()
  await untilCached(cache, counts)

  const restarting = async (): Promise<void> => {
    for (let restart = 0; restart < RESTARTS; restart++) {
      await memcached.restart()
      await wait(FAULTY_MS / RESTARTS)
    }
  }
  await assertAdded(t, 'restarted again and again', test, before, restarting())
  await untilCached(cache, counts)
})

t.test('each connection is broken off in mid-value, or at once, under steady load: nobody waits, and it comes back', async (t) => {
  const memcached = await startTestMemcached(t)
  const proxy = await startFaultProxy(t, memcached.port)
  const test = openTestCache(t, [serverAt(proxy.port)], { deadlineMs: DEADLINE_MS })
  const { cache, counts } = test
  const before = await load(cache, wait(BEFORE_MS))
  for (const kind of ['reset', 'fin'] as const) {
    for (const afterBytes of [0, MID_VALUE_BYTES]) {
      proxy.set({ kind, afterBytes })
      await assertAdded(t, `${kind} after ${afterBytes} bytes`, test, before, wait(FAULTY_MS))
      proxy.set({ kind: 'none' })
      await untilCached(cache, counts)
    }
  }
})

t.test('an answer broken off anywhere is never taken for a value', async (t) => {
  const { cache, counts, proxy } = await setUp(t, 5_000)
  const fault = fc.record({
    kind: fc.constantFrom('reset' as const, 'fin' as const),
    afterBytes: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: ANSWER_BYTES })),
  })
  await fc.assert(
    fc.asyncProperty(fault, async (broken) => {
      proxy.set(broken)
      const during = await Promise.all([readRight(cache), readRight(cache)])
      proxy.set({ kind: 'none' })
      const after = await readRight(cache)
      await untilCached(cache, counts)
      return during.every(Boolean) && after
    }),
    { numRuns: 40 },
  )
  t.ok(counts.breaker.length > 0, 'requests were in flight when it broke')
})

t.test('a byte that is changed on its way, anywhere in an answer, is never shown', async (t) => {
  const { cache, counts, proxy } = await setUp(t, 100)
  const anywhere = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: ANSWER_BYTES }))
  await fc.assert(
    fc.asyncProperty(anywhere, async (afterBytes) => {
      proxy.set({ kind: 'garble', afterBytes })
      const during = await readRight(cache)
      proxy.set({ kind: 'none' })
      await untilCached(cache, counts)
      return during && (await readRight(cache))
    }),
    { numRuns: 40 },
  )
  t.ok(counts.failures.includes('corrupt'), 'values were changed, and refused')
})

const outages: [name: string, fault: Fault][] = [
  ['it answers nothing', { kind: 'black-hole' }],
  // Too slow for a delete, too, for which a reader's deadline is not the last word.
  ['its answers drip', { kind: 'drip', bytes: 1, everyMs: 40 }],
  ['its answers are late', { kind: 'latency', ms: 1_000 }],
  ['it resets new connections', { kind: 'refuse' }],
]
for (const [name, fault] of outages) {
  t.test(`${name}: reads are right and do not hang, deletes are not confirmed, and it comes back`, async (t) => {
    const { cache, counts, proxy } = await setUp(t, 50)
    proxy.set(fault)
    for (let round = 0; round < 20; round++) t.ok(await readRight(cache))
    t.same(await cache.delete(['value of 5']), ['value of 5'])
    t.equal(await cache.increment('logins', 60_000), undefined)
    t.ok(counts.breaker.includes(true))
    proxy.set({ kind: 'none' })
    await untilCached(cache, counts)
  })
}

t.test('a server that fails again soon after it came back is left alone for longer, however well it answers probes', async (t) => {
  const memcached = await startTestMemcached(t)
  const proxy = await startFaultProxy(t, memcached.port)
  const { cache, counts } = openTestCache(t, [serverAt(proxy.port)], { relapseStepsMs: [0, 3_600_000] })
  // A connection lost under a delete: another one confirms it, which is a probe that succeeds.
  const loseConnection = async (): Promise<void> => {
    await untilCached(cache, counts)
    const deleting = cache.delete(['value of 5'])
    proxy.set({ kind: 'refuse' })
    proxy.set({ kind: 'none' })
    t.same(await deleting, [])
  }
  await loseConnection()
  await loseConnection()
  const hits = counts.reads.hit
  for (let round = 0; round < 50; round++) t.ok(await readRight(cache))
  t.equal(counts.reads.hit, hits)
  t.same(counts.breaker, [true, false, true])
})

t.test('killed and restarted empty under load: reads are right all along', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache, counts } = openTestCache(t, [memcached.server])
  await untilCached(cache, counts)
  const stop = new AbortController()
  const reader = (async () => {
    while (!stop.signal.aborted) {
      if (!(await readRight(cache))) return false
      await wait(1)
    }
    return true
  })()
  for (let round = 0; round < 3; round++) {
    await memcached.restart()
    await untilCached(cache, counts)
  }
  stop.abort()
  t.ok(await reader)
})

t.test('a server that was never there costs a refused connection, once', async (t) => {
  const { cache, counts } = openTestCache(t, [serverAt(1)])
  for (let round = 0; round < 100; round++) t.ok(await readRight(cache))
  t.ok(counts.reads.down > 0)
  t.ok(counts.failures.length <= 5, `${counts.failures.length} attempts`)
})
