import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { apiClient, type Account, type ApiClient } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFaultProxy } from '../support/fault-proxy.ts'
import { serverAt, startTestMemcached } from '../support/memcached.ts'
import { startMonogram } from '../support/monogram.ts'
import { sumMetric } from '../support/web-metrics.ts'

/** Row 12 of the faults, by the clock of a client: what a memcached that is frozen, stopped or breaks off adds to an answer. */

const TOKEN = 'the-metrics-token'
const ADDED_P99_MS_MAX = 50
const PACE_MS = 10
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
  const { account } = await api.signUp('author')
  const hits = (): Promise<number> => sumMetric(monogram.urls, TOKEN, 'monogram_cache_reads_total', { end: 'hit' })
  const failures = (): Promise<number> => sumMetric(monogram.urls, TOKEN, 'monogram_cache_failures_total')
  /** Reads until the cache answers. */
  const untilCached = async (): Promise<void> => {
    const before = await hits()
    await eventually('a hit', async () => {
      await api.ok('GET', `/v1/accounts/${account.id}`)
      return (await hits()) > before ? true : undefined
    })
  }

  /** What reads take while all is well. */
  const well = async (): Promise<number> => {
    await untilCached()
    return p99Of(api, account, wait(WELL_MS))
  }
  // The first answers of a process take longer.
  await well()
  let beforeMs = await well()

  /** Compares with what reads take just before and after, so that what else the machine does weighs on both. */
  async function assertAdded(name: string, over: Promise<unknown>, mend: () => Promise<void>): Promise<void> {
    const failed = await failures()
    const duringMs = await p99Of(api, account, over)
    t.ok((await failures()) > failed, `${name}: it was noticed`)
    await mend()
    const afterMs = await well()
    const addedMs = duringMs - Math.max(beforeMs, afterMs)
    t.ok(addedMs <= ADDED_P99_MS_MAX, `${name}: ${duringMs.toFixed(1)} ms at the 99th percentile, ${beforeMs.toFixed(1)} before and ${afterMs.toFixed(1)} after`)
    beforeMs = afterMs
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

/** Steady reads until `over` settles, each of which must be right. @returns the 99th percentile of what they took */
async function p99Of(api: ApiClient, account: Account, over: Promise<unknown>): Promise<number> {
  const state = { isOver: false }
  const ended = over.finally(() => (state.isOver = true))
  ended.catch(() => undefined)
  const tookMs: number[] = []
  const read = async (): Promise<void> => {
    const startMs = performance.now()
    const { id, username } = await api.ok<Account>('GET', `/v1/accounts/${account.id}`)
    tookMs.push(performance.now() - startMs)
    if (id !== account.id || username !== account.username) throw new Error(`read the account ${id}`)
  }
  const reads: Promise<void>[] = []
  while (!state.isOver) {
    reads.push(read())
    await wait(PACE_MS)
  }
  await Promise.all([ended, ...reads])
  return tookMs.sort((a, b) => a - b)[Math.floor(tookMs.length * 0.99)] ?? Infinity
}
