import { connect } from 'node:net'
import type { Test } from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { createLogger } from '#platform/logger/logger.ts'
import type { CacheMetrics, ReadEnd } from '#platform/memcached/cache-metrics.ts'
import type { Cache } from '#platform/memcached/cache.ts'
import { createMemcachedCache } from '#platform/memcached/memcached-cache.ts'
import type { MemcachedOptions } from '#platform/memcached/memcached-cache.ts'
import type { CacheServer } from '#platform/memcached/server-list.ts'
import { startMemcached } from '../../scripts/stack/memcached.ts'
import type { Memcached, MemcachedOptions as ServerOptions } from '../../scripts/stack/memcached.ts'
import { LOOPBACK } from '../../scripts/stack/free-port.ts'

/** A real memcached of one test, on a port that it keeps through a restart. */
export interface TestMemcached {
  readonly port: number
  readonly server: CacheServer
  /** It answers nothing until `thaw`, though its connections stay and new ones seem to be accepted. */
  freeze(): void
  thaw(): void
  kill(): Promise<void>
  /** Kills it if it runs, and starts it anew: empty, with its CAS numbers from the beginning. */
  restart(): Promise<void>
}

/** Starts one memcached for a test and stops it at teardown. */
export async function startTestMemcached(t: Test, options: ServerOptions = {}): Promise<TestMemcached> {
  let running: Memcached = await startMemcached(options)
  const { port } = running
  t.teardown(() => running.stop())
  return {
    port,
    server: serverAt(port),
    freeze: () => running.signal('SIGSTOP'),
    thaw: () => running.signal('SIGCONT'),
    kill: () => running.stop(),
    async restart() {
      await running.stop()
      running = await startMemcached({ ...options, port })
      if (running.port !== port) throw new Error(`the port ${port} was taken meanwhile`)
    },
  }
}

/** Starts `count` of them. */
export function startTestMemcacheds(t: Test, count: number): Promise<TestMemcached[]> {
  return Promise.all(Array.from({ length: count }, () => startTestMemcached(t)))
}

/** The server that listens on a port of the loopback address: memcached itself or a proxy before it. */
export function serverAt(port: number, credentials: CacheServer['credentials'] = null): CacheServer {
  return { name: `${LOOPBACK}:${port}`, host: LOOPBACK, port, credentials }
}

/** What a cache under test reported. */
export interface CacheCounts {
  reads: Record<ReadEnd, number>
  commands: number
  multiGets: number
  failures: string[]
  /** True for each opening of a breaker, false for each closing, in order. */
  breaker: boolean[]
}

export interface TestCache {
  readonly cache: Cache
  readonly counts: CacheCounts
}

/** Far beyond what a busy machine delays an answer by: tests of what is not a timeout must not meet one. */
const PATIENT_DEADLINE_MS = 10_000

/** A cache over servers, closed at teardown; patient, forgiving and of generation 1 unless told otherwise. */
export function openTestCache(
  t: Test,
  servers: readonly CacheServer[],
  options: Partial<MemcachedOptions> = {},
): TestCache {
  const { metrics, counts } = countingMetrics()
  const cache = createMemcachedCache({
    servers,
    generation: () => 1n,
    log: createLogger({ process: 'test', level: 'silent' }),
    clock: systemClock,
    metrics,
    deadlineMs: PATIENT_DEADLINE_MS,
    relapseStepsMs: [0],
    ...options,
  })
  t.teardown(() => cache.close())
  return { cache, counts }
}

function countingMetrics(): { metrics: CacheMetrics; counts: CacheCounts } {
  const counts: CacheCounts = {
    reads: { hit: 0, absent: 0, filled: 0, waited: 0, down: 0 },
    commands: 0,
    multiGets: 0,
    failures: [],
    breaker: [],
  }
  const metrics: CacheMetrics = {
    read: (end, count) => (counts.reads[end] += count),
    commands: (count) => (counts.commands += count),
    multiGet: () => counts.multiGets++,
    failure: (_node, reason) => counts.failures.push(reason),
    breaker: (_node, isOpen) => counts.breaker.push(isOpen),
  }
  return { metrics, counts }
}

/** Says one command of the text protocol to a server and gives its answer up to the line that `ends` it. */
export async function talk(port: number, command: string, ends: RegExp): Promise<string> {
  const socket = connect(port, LOOPBACK)
  socket.write(`${command}\r\n`)
  let answer = ''
  for await (const chunk of socket.setEncoding('utf8') as AsyncIterable<string>) {
    answer += chunk
    if (ends.test(answer)) break
  }
  socket.destroy()
  return answer
}

/** The whole seconds that each key of a server has left to live, by its key on the wire. */
export async function lifesLeft(port: number): Promise<Map<string, number>> {
  const dump = await talk(port, 'lru_crawler metadump all', /END\r\n$/)
  const entries = [...dump.matchAll(/^key=(\S+) exp=(-?\d+)/gm)]
  const nowSeconds = Date.now() / 1_000
  return new Map(entries.map(([, key = '', exp]) => [decodeURIComponent(key), Number(exp) - nowSeconds]))
}
