import { setImmediate as nextTick } from 'node:timers/promises'
import fc from 'fast-check'
import type { Scheduler } from 'fast-check'
import t from 'tap'
import type { Cache } from '#platform/memcached/cache.ts'
import { openTestCache, startTestMemcached } from '../support/memcached.ts'

/**
 * Row 14 of the faults: a value that was fetched before a write must not be stored after it. Readers and writers of
 * two processes, on a real memcached, in as many orders as fast-check's scheduler thinks of.
 */

const ROUNDS = 150
/** From a reader's coming to its fetch: a get, an add, and what lies between. */
const TRIPS_PER_STEP = 3
let runs = 0

/** One row of a database whose reads and commits happen when the scheduler says. */
function scheduledRow(s: Scheduler) {
  let committed = 0
  let acknowledged = 0
  let fetches = 0
  return {
    get committed() {
      return committed
    },
    get fetches() {
      return fetches
    },
    async fetch(): Promise<Buffer> {
      fetches++
      await s.schedule(Promise.resolve(), 'query arrives')
      const seen = String(committed)
      await s.schedule(Promise.resolve(), 'answer arrives')
      return Buffer.from(seen)
    },
    /** @returns true when the value is none from before the last acknowledged write */
    async read(cache: Cache, key: string): Promise<boolean> {
      await s.schedule(Promise.resolve(), 'reader comes')
      const floor = acknowledged
      const value = await cache.read(key, () => this.fetch())
      return Number(value?.toString()) >= floor
    },
    async write(cache: Cache, key: string): Promise<boolean> {
      await s.schedule(Promise.resolve(), 'commit')
      const mine = ++committed
      await s.schedule(Promise.resolve(), 'delete')
      const isConfirmed = (await cache.delete([key])).length === 0
      acknowledged = Math.max(acknowledged, mine)
      return isConfirmed
    },
  }
}

t.test('nothing from before an acknowledged delete is read after it, and a lease stores once', async (t) => {
  const memcached = await startTestMemcached(t)
  const processes = [0, 1].map(() => openTestCache(t, [memcached.server], { waitStepsMs: [] }))
  const caches = processes.map(({ cache }) => cache)
  const filled = (): number => processes.reduce((sum, { counts }) => sum + counts.reads.filled, 0)
  // After each step of the scheduler everything that is on the wire arrives, so that its order is the only one.
  // Answers come in the order of the commands: when a marker is back, so is all before it.
  const arrive = async (): Promise<void> => {
    for (let trip = 0; trip < TRIPS_PER_STEP; trip++) {
      await nextTick()
      await Promise.all(caches.map((cache) => cache.increment('marker', 1_000)))
    }
  }
  const act = async (step: () => Promise<void>): Promise<void> => {
    await step()
    await arrive()
  }
  const step = fc.record({ kind: fc.constantFrom('read' as const, 'read' as const, 'write' as const), process: fc.nat(1) })

  await fc.assert(
    fc.asyncProperty(fc.scheduler({ act }), fc.array(step, { minLength: 2, maxLength: 12 }), async (s, steps) => {
      const key = `row ${++runs}`
      const row = scheduledRow(s)
      const filledBefore = filled()
      const work = steps.map(({ kind, process }) => {
        const cache = caches[process] ?? caches[0]
        if (cache === undefined) throw new Error('there is no process')
        return row[kind](cache, key)
      })
      const outcomes = await s.waitFor(Promise.all(work))
      await Promise.all(caches.map((cache) => cache.idle()))
      const last = await Promise.all(caches.map((cache) => cache.read(key, async () => Buffer.from(String(row.committed)))))
      const deletes = steps.filter(({ kind }) => kind === 'write').length
      const isCurrent = last.every((value) => value?.toString() === String(row.committed))
      // A lease ends by being used, by a delete, or (not in here) by age.
      return outcomes.every(Boolean) && isCurrent && filled() - filledBefore <= deletes + 2
    }),
    { numRuns: ROUNDS },
  )
})

t.test('a lease from before a restart of the server stores nothing after it', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache } = openTestCache(t, [memcached.server], { waitStepsMs: [] })
  const { cache: other } = openTestCache(t, [memcached.server], { waitStepsMs: [] })
  const { promise: asked, resolve: ask } = Promise.withResolvers<undefined>()
  const { promise: answer, resolve: give } = Promise.withResolvers<Buffer>()
  const slow = cache.read('k', () => {
    ask(undefined)
    return answer
  })
  await asked
  // The restarted server numbers from the beginning: the other's lease gets the very token that the first one has.
  await memcached.restart()
  const { promise: askedAgain, resolve: askAgain } = Promise.withResolvers<undefined>()
  const { promise: answerAgain, resolve: giveAgain } = Promise.withResolvers<Buffer>()
  const quick = other.read('k', () => {
    askAgain(undefined)
    return answerAgain
  })
  await askedAgain
  // The first process has a new connection, on which it does everything but use the old token.
  t.same(await cache.read('unrelated', async () => Buffer.from('u')), Buffer.from('u'))
  await cache.idle()
  give(Buffer.from('old'))
  t.same(await slow, Buffer.from('old'), 'its own reader came before')
  await cache.idle()
  giveAgain(Buffer.from('new'))
  t.same(await quick, Buffer.from('new'))
  await other.idle()
  t.same(await cache.read('k', async () => Buffer.from('fetched')), Buffer.from('new'))
})

t.test('a lease whose fetch fails is given up at once; what a fetch leaves out is not kept', async (t) => {
  const memcached = await startTestMemcached(t)
  const { cache } = openTestCache(t, [memcached.server])
  await t.rejects(cache.read('k', () => Promise.reject(new Error('the database is away'))), /away/)
  t.same(await cache.readMany(['k'], async () => new Map()), [undefined])
  await cache.idle()
  t.same(await cache.read('k', async () => null), undefined)
  await cache.idle()
  t.same(await cache.read('k', async () => Buffer.from('made')), undefined, 'absence is kept')
  t.same(await cache.delete(['k']), [])
  t.same(await cache.read('k', async () => Buffer.from('made')), Buffer.from('made'), 'until the thing is made')
})
