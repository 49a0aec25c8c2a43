import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import autocannon from 'autocannon'
import { openContext } from '#domain/context.ts'
import { openBenchStack, signUp, type BenchPerson, type BenchServer } from './bench-stack.ts'
import { copyFeed, fillFeed } from './filled-feed.ts'
import { compareRounds, printRates, ratioBetween } from './rounds.ts'

/**
 * A feed page of 20 and a single photo with the cache on, by one web process, against the same bytes made ahead (or a
 * bare hello) and against the usual way with memjs. Every server is a process of its own; the load comes from here:
 * 100 connections with 10 requests under way on each.
 *
 * Ours checks a token (of the feed), writes a line and counts metrics for each request. The ceilings and the naive way
 * are Fastify with nothing else: no token, no line, no request id, nothing to invalidate. Beside it stands the naive way
 * with these. Rates are per second of the
 * server's processor time, all its threads together, which the generator and other programs hardly touch; those by the
 * clock, printed beside, are what people usually quote, and flatter us, as the generator is at its limit with the
 * ceilings long before they are.
 */
const AUTHORS = 50
const PHOTOS_EACH = 20
const READERS = 40
const ROUNDS = 3
/** So many requests and not so many seconds: a busy machine makes a round longer, and never empty. */
const LOAD = { connections: 100, pipelining: 10, amount: 20_000, sampleInt: 20 }

/** Requests per second by the clock, of each load by its name. */
const byClock = new Map<string, number[]>()

/** Requests per second of the server's own processor time: what one core does, whatever else the machine is busy with. */
async function load(name: string, { base, cpuSeconds }: BenchServer, requests: readonly { path: string; as?: BenchPerson }[]): Promise<number> {
  const before = cpuSeconds()
  const result = await autocannon({
    url: base,
    ...LOAD,
    requests: requests.map(({ path, as }) => ({
      path,
      ...(as !== undefined && { headers: { authorization: `Bearer ${as.token}` } }),
    })),
  })
  if (result.non2xx > 0 || result.errors > 0) throw new Error(`${result.non2xx} answers not 2xx, ${result.errors} errors`)
  const cpu = cpuSeconds() - before
  byClock.set(name, [...(byClock.get(name) ?? []), result.requests.total / result.duration])
  return result.requests.total / (Number.isNaN(cpu) ? result.duration : cpu)
}

await using stack = await openBenchStack('cached-feed')
const context = await openContext('bench', { ...stack.env, LOG_LEVEL: 'warn' })
stack.close(() => context.close())
const web = await stack.serve(() => ['services/web/main.ts'])
const quiet = await stack.serve(() => ['services/web/main.ts'], { LOG_LEVEL: 'warn' })

const readers: BenchPerson[] = []
for (let index = 0; index < READERS; index++) readers.push(await signUp(web.base, `reader${index}`))
const [reader, ...others] = readers
if (reader === undefined) throw new Error('nobody reads')
await fillFeed(context.router, reader.id, { authors: AUTHORS, photosEach: PHOTOS_EACH, nowMs: Date.now() })
await copyFeed(context.router, reader.id, others.map(({ id }) => id))

const path = '/v1/feed?limit=20'
const page = async (of: string): Promise<Buffer> => {
  const answer = await fetch(`${web.base}${of}`, { headers: { authorization: `Bearer ${reader.token}` } })
  return Buffer.from(await answer.arrayBuffer())
}
const bytes = await page(path)
const { items } = JSON.parse(bytes.toString()) as { items: { id: string }[] }
if (items.length !== 20) throw new Error(`the page has ${items.length} photos`)
// A kept skeleton ends after a hundred places: beyond it PostgreSQL says which photos are on the page.
const { next } = JSON.parse((await page('/v1/feed?limit=100')).toString()) as { next: string }
const deepPath = `${path}&cursor=${next}`
const file = join(stack.directory, 'page.json')
await writeFile(file, bytes)
const bare = await stack.serve((port) => ['scripts/bench/prebuilt-page.ts', port, file])
const naive = await stack.serve((port) => ['scripts/bench/memjs-page.ts', port, file, stack.memcached])
const whole = await stack.serve((port) => ['scripts/bench/memjs-page.ts', port, file, stack.memcached, 'whole', reader.token])

const PREBUILT = 'the same page as bytes made ahead (ceiling)'
const FEED = 'GET /v1/feed, one reader'
const FEED_MANY = `GET /v1/feed, ${READERS} readers`
const FEED_QUIET = `${FEED_MANY}, without logs`
const FEED_DEEP = `${FEED_MANY}, skeleton from PostgreSQL`
const NAIVE_FEED = '21 memjs gets, parse, serialise'
const WHOLE_FEED = `${NAIVE_FEED}, with token, log, metrics`
const feeds = await compareRounds(
  {
    [PREBUILT]: () => load(PREBUILT, bare, [{ path }]),
    [FEED]: () => load(FEED, web, [{ path, as: reader }]),
    [FEED_MANY]: () => load(FEED_MANY, web, readers.map((as) => ({ path, as }))),
    [FEED_QUIET]: () => load(FEED_QUIET, quiet, readers.map((as) => ({ path, as }))),
    [FEED_DEEP]: () => load(FEED_DEEP, web, readers.map((as) => ({ path: deepPath, as }))),
    [NAIVE_FEED]: () => load(NAIVE_FEED, naive, [{ path }]),
    [WHOLE_FEED]: () => load(WHOLE_FEED, whole, [{ path, as: reader }]),
  },
  { rounds: ROUNDS },
)
printRates(`pages of 20 per CPU second (${Math.round(bytes.length / 1_000)} kB)`, feeds)
console.log(`${FEED} to ${NAIVE_FEED}: ${ratioBetween(feeds, FEED, NAIVE_FEED).toFixed(1)} x`)
console.log(`${FEED} to the same with token, log, metrics: ${ratioBetween(feeds, FEED, WHOLE_FEED).toFixed(1)} x`)
console.log(`${FEED_MANY} to ${NAIVE_FEED}: ${ratioBetween(feeds, FEED_MANY, NAIVE_FEED).toFixed(1)} x`)
printClock(PREBUILT, FEED, FEED_MANY, FEED_QUIET, FEED_DEEP, NAIVE_FEED, WHOLE_FEED)

const photos = items.map(({ id }) => ({ path: `/v1/photos/${id}` }))
const HELLO = 'bare fastify hello (ceiling)'
const NAIVE_PHOTO = 'memjs get, parse, serialise'
const WHOLE_PHOTO = `${NAIVE_PHOTO}, with log and metrics`
const PHOTO = 'GET /v1/photos/{id}'
const PHOTO_QUIET = `${PHOTO}, without logs`
const PHOTO_TOKEN = `${PHOTO}, with a token`
const singles = await compareRounds(
  {
    [HELLO]: () => load(HELLO, naive, [{ path: '/hello' }]),
    [PHOTO]: () => load(PHOTO, web, photos),
    [PHOTO_QUIET]: () => load(PHOTO_QUIET, quiet, photos),
    [PHOTO_TOKEN]: () => load(PHOTO_TOKEN, web, photos.map((one) => ({ ...one, as: reader }))),
    [NAIVE_PHOTO]: () => load(NAIVE_PHOTO, naive, photos),
    [WHOLE_PHOTO]: () => load(WHOLE_PHOTO, whole, photos),
  },
  { rounds: ROUNDS },
)
printRates('photos per CPU second', singles)
console.log(`${PHOTO} to ${NAIVE_PHOTO}: ${ratioBetween(singles, PHOTO, NAIVE_PHOTO).toFixed(1)} x`)
console.log(`${PHOTO} to the same with log and metrics: ${ratioBetween(singles, PHOTO, WHOLE_PHOTO).toFixed(1)} x`)
printClock(HELLO, PHOTO, PHOTO_QUIET, PHOTO_TOKEN, NAIVE_PHOTO, WHOLE_PHOTO)

/** Prints medians by the clock, and the ratios of these to the first; the first round only warms up. */
function printClock(...names: readonly string[]): void {
  const medians = names.map((name) => {
    const rates = (byClock.get(name) ?? []).slice(1).toSorted((a, b) => a - b)
    return rates[rates.length >> 1] ?? NaN
  })
  const [ceiling = NaN] = medians
  const lines = names.map((name, at) => `  ${name}: ${Math.round(medians[at] ?? NaN)}, ${((medians[at] ?? NaN) / ceiling).toFixed(2)}`)
  console.log(['by the clock, per second:', ...lines, ''].join('\n'))
}
