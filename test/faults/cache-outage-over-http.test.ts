import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { apiClient, type Account, type ApiClient, type Page, type Person } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFaultProxy } from '../support/fault-proxy.ts'
import { serverAt, startTestMemcached } from '../support/memcached.ts'
import { startMonogram } from '../support/monogram.ts'
import { sumMetric } from '../support/web-metrics.ts'

/**
 * Row 12 of the faults, by the clock of a client: what a memcached that is frozen, stopped or breaks off adds to an answer. A
 * profile takes one round to it; a feed three, one after the other; an edit makes it forget.
 */

const TOKEN = 'the-metrics-token'
const ADDED_P99_MS_MAX = 50
const PACE_MS = 10
/** One request in so many is an edit. */
const EDIT_EVERY = 10
const WELL_MS = 2_000
const FROZEN_MS = 6_000
const FAULTY_MS = 3_000
const RESTARTS = 4
/** Of answers, after which an end falls into the middle of a value. */
const MID_VALUE_BYTES = 100

t.test('frozen, stopped, restarted, broken off in mid-value: every answer is right, and few are late', async (t) => {
  const memcached = await startTestMemcached(t)
  const proxy = await startFaultProxy(t, memcached.port)
  const monogram = await startMonogram(t, {
    counts: { 'fanout-worker': 0, 'thumbnail-worker': 0, 'safety-worker': 0, 'id-allocator': 0 },
    env: { MEMCACHE_SERVERS: serverAt(proxy.port).name, METRICS_TOKEN: TOKEN },
  })
  const api = apiClient(monogram.urls)
  const author = await api.signUp('author')
  const reader = await api.signUp('reader')
  await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
  const hits = (): Promise<number> => sumMetric(monogram.urls, TOKEN, 'monogram_cache_reads_total', { end: 'hit' })
  const failures = (): Promise<number> => sumMetric(monogram.urls, TOKEN, 'monogram_cache_failures_total')
  /** Reads until the cache answers. */
  const untilCached = async (): Promise<void> => {
    const before = await hits()
    await eventually('a hit', async () => {
      await api.ok('GET', `/v1/accounts/${author.account.id}`)
      return (await hits()) > before ? true : undefined
    })
  }

  /** What requests take while all is well. */
  const well = async (): Promise<Percentiles> => {
    await untilCached()
    return p99Of(api, { author, reader }, wait(WELL_MS))
  }
  // The first answers of a process take longer.
  await well()
  let before = await well()

  /** Compares with what they take just before and after, so that what else the machine does weighs on both. */
  async function assertAdded(name: string, over: Promise<unknown>, mend: () => Promise<void>): Promise<void> {
    const failed = await failures()
    const during = await p99Of(api, { author, reader }, over)
    t.ok((await failures()) > failed, `${name}: it was noticed`)
    await mend()
    const after = await well()
    for (const kind of ['all', 'feeds'] as const) {
      const addedMs = during[kind] - Math.max(before[kind], after[kind])
      t.ok(addedMs <= ADDED_P99_MS_MAX, `${name}, ${kind}: ${during[kind].toFixed(1)} ms at the 99th percentile, ${before[kind].toFixed(1)} before and ${after[kind].toFixed(1)} after`)
    }
    before = after
  }

  memcached.freeze()
  await assertAdded('frozen', wait(FROZEN_MS), async () => memcached.thaw())

  await assertAdded('stopped', memcached.kill().then(() => wait(FAULTY_MS)), () => memcached.restart())

  const restarting = async (): Promise<void> => {
    for (let restart = 0; restart < RESTARTS; restart++) {
      await memcached.restart()
      await wait(FAULTY_MS / RESTARTS)
    }
  }
  await assertAdded('restarted again and again', restarting(), async () => undefined)

  for (const kind of ['reset', 'fin'] as const) {
    proxy.set({ kind, afterBytes: MID_VALUE_BYTES })
    await assertAdded(`${kind} in mid-value`, wait(FAULTY_MS), async () => proxy.set({ kind: 'none' }))
  }
})

/** The 99th percentiles of what requests took, in milliseconds. */
interface Percentiles {
  readonly all: number
  readonly feeds: number
}

/** Steady requests until `over` settles, each of whose answers must be right. */
async function p99Of(api: ApiClient, { author, reader }: { author: Person; reader: Person }, over: Promise<unknown>): Promise<Percentiles> {
  const state = { isOver: false }
  const ended = over.finally(() => (state.isOver = true))
  ended.catch(() => undefined)
  const path = `/v1/accounts/${author.account.id}`
  const readProfile = async (): Promise<void> => {
    const { id, username } = await api.ok<Account>('GET', path)
    if (id !== author.account.id || username !== author.account.username) throw new Error(`read the account ${id}`)
  }
  const readFeed = async (): Promise<void> => {
    const { items } = await api.ok<Page<unknown>>('GET', '/v1/feed', { token: reader.token })
    if (items.length > 0) throw new Error('read photos of who has none')
  }
  const edit = async (number: number): Promise<void> => {
    const { displayName } = await api.ok<Account>('PATCH', '/v1/me', { token: author.token, json: { displayName: `name ${number}` } })
    if (displayName !== `name ${number}`) throw new Error(`read the name ${displayName}`)
  }
  const tookMs: Record<keyof Percentiles, number[]> = { all: [], feeds: [] }
  const timed = async (work: Promise<void>, isFeed: boolean): Promise<void> => {
    const startMs = performance.now()
    await work
    const ms = performance.now() - startMs
    tookMs.all.push(ms)
    if (isFeed) tookMs.feeds.push(ms)
  }
  const requests: Promise<void>[] = []
  while (!state.isOver) {
    const number = requests.length
    const isFeed = number % 2 === 1
    requests.push(timed(number % EDIT_EVERY === 0 ? edit(number) : isFeed ? readFeed() : readProfile(), isFeed))
    await wait(PACE_MS)
  }
  await Promise.all([ended, ...requests])
  const p99 = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? Infinity
  return { all: p99(tookMs.all), feeds: p99(tookMs.feeds) }
}
