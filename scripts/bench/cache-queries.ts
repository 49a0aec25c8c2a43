import { setTimeout as sleep } from 'node:timers/promises'
import autocannon from 'autocannon'
import { sql } from 'kysely'
import { openContext } from '#domain/context.ts'
import { openBenchStack, signUp, type BenchPerson } from './bench-stack.ts'
import { copyFeed, fillFeed } from './filled-feed.ts'

/**
 * Database statements per 1,000 reads of a feed's first page, by readers as active as Zipf's law says, with a warm
 * cache: what the web process counts itself, the check of the session included. A feed's skeleton lives for two
 * seconds and a session for four, however often they are read, so the slower the readers come, the more of them find
 * none; hence several paces, each kept up until all of it has been fetched anew several times.
 */
const READERS = 200
const AUTHORS = 50
const PHOTOS_EACH = 10
const PACE_SECONDS = 12
const EXPONENT = 1
/** As many as one process answers. */
const FULL = { connections: 100, duration: PACE_SECONDS }
const DRAWN_READS = 1_000
const PACES_PER_SECOND = [1_000, 500, 100]
const AT_ONCE = 16
const PATH = '/v1/feed?limit=20'
const METRICS_TOKEN = 'a token for the metrics of benchmarks'

/** Draws readers: the nth most active of them n times as rarely as the first. */
function zipf(count: number): () => number {
  const weights = Array.from({ length: count }, (_, rank) => 1 / (rank + 1) ** EXPONENT)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  // A generator of its own, so that every run reads alike (Park and Miller's minimal standard).
  let state = 20_261_122
  return () => {
    state = (state * 48_271) % 2_147_483_647
    let left = (state / 2_147_483_647) * total
    const drawn = weights.findIndex((weight) => (left -= weight) < 0)
    return drawn === -1 ? count - 1 : drawn
  }
}

await using stack = await openBenchStack('cache-queries')
const context = await openContext('bench', { ...stack.env, LOG_LEVEL: 'warn' })
stack.close(() => context.close())
const { base: web } = await stack.serve(() => ['services/web/main.ts'], { METRICS_TOKEN })

const readers: BenchPerson[] = []
for (let index = 0; index < READERS; index++) readers.push(await signUp(web, `reader${index}`))
const [first, ...others] = readers
if (first === undefined) throw new Error('nobody reads')
await fillFeed(context.router, first.id, { authors: AUTHORS, photosEach: PHOTOS_EACH, nowMs: Date.now() })
await copyFeed(context.router, first.id, others.map(({ id }) => id))
await sql`vacuum analyze`.execute(context.router.directory.primary)

async function read(reader: BenchPerson | undefined): Promise<void> {
  const answer = await fetch(web + PATH, { headers: { authorization: `Bearer ${reader?.token}` } })
  const { items } = (await answer.json()) as { items: unknown[] }
  if (items.length !== 20) throw new Error(`a page has ${items.length} photos`)
}

async function statements(): Promise<number> {
  const answer = await fetch(`${web}/metrics`, { headers: { authorization: `Bearer ${METRICS_TOKEN}` } })
  const lines = (await answer.text()).matchAll(/^monogram_http_database_statements_total\{.*route="\/v1\/feed".*\} (\d+)$/gm)
  return [...lines].reduce((sum, [, count]) => sum + Number(count), 0)
}

const pick = zipf(READERS)
for (const reader of readers) await read(reader)
let counted = await statements()

/** Prints what the reads since the last time have cost. */
async function tell(reads: number, seconds: number): Promise<void> {
  const before = counted
  counted = await statements()
  const perThousand = ((counted - before) / reads) * 1_000
  console.log(`${perThousand.toFixed(0)} statements in 1,000 reads by ${READERS} readers, ${Math.round(reads / seconds)} reads/s`)
}

const full = await autocannon({
  url: web,
  ...FULL,
  setupClient(client) {
    const drawn = Array.from({ length: DRAWN_READS }, () => readers[pick()]?.token ?? '')
    client.setRequests(drawn.map((token) => ({ path: PATH, headers: { authorization: `Bearer ${token}` } })))
  },
})
if (full.non2xx > 0 || full.errors > 0) throw new Error(`${full.non2xx} answers not 2xx, ${full.errors} errors`)
await tell(full.requests.total, full.duration)

for (const pace of PACES_PER_SECOND) {
  const reads = pace * PACE_SECONDS
  const startMs = performance.now()
  let begun = 0
  const client = async (): Promise<void> => {
    while (begun < reads) {
      const dueMs = startMs + (begun++ / pace) * 1_000
      await sleep(Math.max(0, dueMs - performance.now()))
      await read(readers[pick()])
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, client))
  await tell(reads, (performance.now() - startMs) / 1_000)
}
