import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import type { Db } from '#domain/database.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { seededRandom } from '../../scripts/pictures/random.ts'
import { apiClient, type Answer, type ApiClient, type Page, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts'
import { assertInvariants } from '../support/invariants.ts'
import { lifesLeft, startTestMemcached, talk } from '../support/memcached.ts'
import { startMonogram, type Monogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { createRegister, type Register } from '../support/register.ts'
import { cacheWatch, sumMetric } from '../support/web-metrics.ts'

/** Rows 14 and 15 of the faults, as clients of two web processes see them. */

const TOKEN = 'the-metrics-token'
const PHOTOS = 12

const READERS = 1_000
const READERS_PER_TICK = 50
const EXPIRIES = 2
/** Tries at most: on a machine that is too busy some show nothing. */
const EXPIRIES_MAX = 30
/** How the statement that reads photos by their ids can be told from all others. */
const READS_PHOTOS = / from "photos"/

const SEED = 1
const ROUNDS = 10
const ROUNDS_MAX = 50
/** Of each photo, by each web process. */
const READS_PER_ROUND = 6
const WRITES_PER_ROUND = 3
/** What a statement of the slow web process takes to the database, and its answer back. */
const WAY_MS = 30
/** All of a round begins within it: before, during and after a fetch of the slow one. */
const ROUND_MS = 4 * WAY_MS

interface WatchedWeb {
  readonly url: string
  readonly api: ApiClient
  /** Its way to the database. */
  readonly proxy: FaultProxy
}

t.test('what is read and written at once', async (t) => {
  const memcached = await startTestMemcached(t)
  const monogram = await startMonogram(t, {
    counts: { 'web': 0, 'id-allocator': 0 },
    // Each statement says what it is: a prepared one is sent by its name.
    env: { MEMCACHE_SERVERS: memcached.server.name, METRICS_TOKEN: TOKEN, DATABASE_PREPARED_STATEMENTS: 'off' },
  })
  const db = openDatabase(t, monogram.databaseUrl)
  const [slow, quick] = [await startWatchedWeb(t, monogram), await startWatchedWeb(t, monogram)]
  const webs = [slow, quick]
  const author = await quick.api.signUp('author')
  const ids = await publishAll(quick.api, author)

  await t.test('a hot photo expires under 1,000 readers: the database is asked once', async (t) => {
    let seen = 0
    for (let expiry = 0; expiry < EXPIRIES_MAX && seen < EXPIRIES; expiry++) {
      const id = ids[expiry % ids.length] ?? ''
      for (const { api } of webs) await api.ok('GET', `/v1/photos/${id}`)
      const before = await impatience(webs)
      const key = await eventually('the photo in the cache', async () => {
        return [...(await lifesLeft(memcached.port)).keys()].find((name) => name.endsWith(`:photo:${id}`))
      })
      const statements = webs.map(({ proxy }) => countStatements(proxy, READS_PHOTOS))
      t.match(await talk(memcached.port, `touch ${key} -1`, /\r\n/), /TOUCHED/)
      const reads: Promise<Answer<Photo>>[] = []
      while (reads.length < READERS) {
        for (const { api } of webs) {
          for (let reader = 0; reader < READERS_PER_TICK / webs.length; reader++) reads.push(api.call<Photo>('GET', `/v1/photos/${id}`))
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
      const answers = await Promise.all(reads)
      if ((await impatience(webs)) > before) continue
      t.ok(answers.every(({ body }) => body.id === id))
      t.equal(statements.reduce((sum, count) => sum + count(), 0), 1)
      seen++
    }
    t.equal(seen, EXPIRIES)
  })

  await t.test('a read that began before a write and ends after it leaves nothing old behind', async (t) => {
    const random = seededRandom(SEED)
    const captions = new Map(ids.map((id) => [id, createRegister('')]))
    const urls = webs.map(({ url }) => url)
    const filled = (): Promise<number> => sumMetric(urls, TOKEN, 'monogram_cache_reads_total', { end: 'filled' })
    const [watch, filledBefore] = [cacheWatch(urls, TOKEN), await filled()]
    await watch.hasFailed()
    let [seen, round] = [0, 0]
    slow.proxy.set({ kind: 'latency', ms: WAY_MS })
    while (seen < ROUNDS && round < ROUNDS_MAX) {
      round++
      const wrong: string[] = []
      await Promise.all([...captions].map(async ([id, caption]) => {
        const atSomeTime = async (work: () => Promise<unknown>): Promise<unknown> => wait(random() * ROUND_MS).then(work)
        const readBy = async ({ api }: WatchedWeb): Promise<unknown> => wrong.push(...(await readOld(api, id, caption)))
        const reads = webs.flatMap((web) => Array.from({ length: READS_PER_ROUND }, () => atSomeTime(() => readBy(web))))
        const writing = async (): Promise<void> => {
          // Each makes somebody fetch anew, and the next one comes while that is under way.
          for (let write = 0; write < WRITES_PER_ROUND; write++) {
            const text = `${round}.${write}`
            await wait((random() * ROUND_MS) / WRITES_PER_ROUND)
            await caption.write(text, () => quick.api.ok('PATCH', `/v1/photos/${id}`, { token: author.token, json: { caption: text } }))
          }
        }
        await Promise.all([...reads, writing()])
        await Promise.all(webs.map(readBy))
      }))
      await invalidated(db)
      if (await watch.hasFailed()) continue
      t.same(wrong, [])
      seen++
    }
    slow.proxy.set({ kind: 'none' })
    t.equal(seen, ROUNDS)
    const fills = (await filled()) - filledBefore
    // A lease ends by being used or by a delete.
    const deletes = round * WRITES_PER_ROUND * PHOTOS
    t.ok(fills <= deletes + 2 * PHOTOS, `${fills} fills after ${deletes} deletes`)
  })
  await assertInvariants(t, monogram, db, { photos: ids })
})

/** Starts a web process with a proxy between it and the database. */
async function startWatchedWeb(t: Test, monogram: Monogram): Promise<WatchedWeb> {
  const through = new URL(monogram.databaseUrl)
  const proxy = await startFaultProxy(t, Number(through.port))
  through.port = String(proxy.port)
  const { port } = await monogram.start('web', { DATABASE_URL: through.href })
  const url = `http://127.0.0.1:${port ?? 0}`
  return { url, api: apiClient([url]), proxy }
}

/**
 * How often a web process has not waited for the cache to its end: an answer came too late, or what another one fetched.
 * It reads for itself then, by design; on a machine that is too busy that happens, and shows nothing of leases.
 */
async function impatience(webs: readonly WatchedWeb[]): Promise<number> {
  const urls = webs.map(({ url }) => url)
  const counts = await Promise.all([
    sumMetric(urls, TOKEN, 'monogram_cache_failures_total'),
    sumMetric(urls, TOKEN, 'monogram_cache_reads_total', { end: 'waited' }),
    sumMetric(urls, TOKEN, 'monogram_cache_reads_total', { end: 'down' }),
  ])
  return counts.reduce((sum, count) => sum + count, 0)
}

/** Counts the statements that pass from now on. */
function countStatements(proxy: FaultProxy, which: RegExp): () => number {
  let count = 0
  proxy.set({
    kind: 'judged',
    judge(request) {
      count += request.toString('latin1').match(new RegExp(which, 'g'))?.length ?? 0
      return 'passes'
    },
  })
  return () => count
}

/** The ids as lists show them. */
async function publishAll(api: ApiClient, author: Person): Promise<string[]> {
  const picture = await makePicture({ seed: 1, width: 320, height: 240 })
  for (let index = 0; index < PHOTOS; index++) await api.upload(author, picture)
  return eventually('the photos of the author', async () => {
    const { items } = await api.ok<Page<Photo>>('GET', `/v1/accounts/${author.account.id}/photos`)
    return items.length === PHOTOS ? items.map(({ id }) => id) : undefined
  })
}

/** Reads a photo's caption. @returns what is wrong with it: it is from before the last write that was acknowledged */
async function readOld(api: ApiClient, id: string, caption: Register<string>): Promise<string[]> {
  const startMs = performance.now()
  const { status, body } = await api.call<Photo>('GET', `/v1/photos/${id}`)
  if (status !== 200) return [`${status}`]
  return caption.mayHold(body.caption, startMs, performance.now()) ? [] : [`"${body.caption}" after "${caption.current}"`]
}

/** Waits until the cache has confirmed every delete. */
async function invalidated(db: Db): Promise<void> {
  await eventually('the end of all invalidations', async () => {
    const { rows } = await sql`select from cache_invalidations`.execute(db)
    return rows.length === 0 ? true : undefined
  })
}
