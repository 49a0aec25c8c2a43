import { setImmediate as nextTick } from 'node:timers/promises'
import t from 'tap'
import { openTestCache, startTestMemcached, talk } from '../support/memcached.ts'

/** Row 15 of the faults: a hot key expires while a thousand read it. */

const READERS = 1_000
const READERS_PER_TICK = 50
/** The others wait for as long as this test takes. */
const PATIENT_STEPS_MS = Array.from({ length: 2_000 }, () => 5)

t.test('a hot key expires under 1,000 readers in two processes: one fetch', async (t) => {
  const memcached = await startTestMemcached(t)
  const caches = [0, 1].map(() => openTestCache(t, [memcached.server], { waitStepsMs: PATIENT_STEPS_MS }).cache)
  // Both are connected, so that both find nothing at the same moment.
  for (const cache of caches) {
    await cache.read('hot', async () => Buffer.from('old'))
    await cache.idle()
  }
  t.match(await talk(memcached.port, 'touch v1:hot -1', /\r\n/), /TOUCHED/)

  let fetches = 0
  const { promise: everyoneIsHere, resolve: open } = Promise.withResolvers<undefined>()
  const fetch = async (): Promise<Buffer> => {
    fetches++
    await everyoneIsHere
    return Buffer.from('new')
  }
  const reads: Promise<Buffer | undefined>[] = []
  while (reads.length < READERS) {
    for (let at = 0; at < READERS_PER_TICK; at++) {
      const cache = caches[at % caches.length]
      if (cache !== undefined) reads.push(cache.read('hot', fetch))
    }
    await nextTick()
  }
  open(undefined)
  const values = await Promise.all(reads)
  t.equal(values.length, READERS)
  t.ok(values.every((value) => value?.toString() === 'new'))
  t.equal(fetches, 1)
})

t.test('when the fetch takes too long the others stop waiting and read without storing', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache, counts } = openTestCache(t, [memcached.server], { waitStepsMs: [1, 1] })
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  const { promise: asked, resolve: ask } = Promise.withResolvers<undefined>()
  const slow = cache.read('hot', () => {
    ask(undefined)
    return promise
  })
  await asked
  t.same(await cache.read('hot', async () => Buffer.from('impatient')), Buffer.from('impatient'))
  t.equal(counts.reads.waited, 1)
  resolve(Buffer.from('stored'))
  await slow
  await cache.idle()
  t.same(await cache.read('hot', async () => Buffer.from('again')), Buffer.from('stored'))
})
