import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#kernel/clock.ts'
import { packId, shardOf } from '#kernel/snowflake.ts'
import type { AppRouter, Database } from '#domain/database.ts'
import { readFeed, type FeedContext } from '#domain/feed/feed.reader.ts'
import { loadConfig } from '#platform/config/config.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { noCache } from '#platform/memcached/cache.ts'
import type { ReadTarget } from '#platform/postgres/replica-metrics.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { readFlushedPosition } from '#platform/postgres/wal-position.ts'
import { removeServer, startPrimary, startStandby } from '../stack/replicated-postgres.ts'
import { fillFeed } from './filled-feed.ts'
import { compareRounds, printRates } from './rounds.ts'
import { serverCpuSeconds } from './server-cpu.ts'

/**
 * First pages of a feed on one node with 0, 1 and 2 replicas, data layer, no cache; the reader writes every few seconds, and
 * reads that. What replicas are for is the primary's processor time, so pages are counted by that. The servers share
 * this machine, so pages a second say little of machines of their own.
 */
const AUTHORS = 50
const PHOTOS_EACH = 20
const READERS = 8
const RUN_SECONDS = 4
const ROUNDS = 5
const PAGE = { before: null, limit: 30 }
const REPLICAS = 2
const LIMITS = { lagMsMax: 5_000, displacedReadsMax: 1_000 }
/** How often the account writes. */
const WRITE_EVERY_MS = 4_000

const checkout = resolve(import.meta.dirname, '../..')
const base = join(checkout, '.monogram', 'bench-replicas')
await using closing = new AsyncDisposableStack()

function place(name: string): string {
  closing.defer(() => rm(join(base, name), { recursive: true, force: true }))
  closing.defer(() => removeServer(checkout, join(base, name)))
  return join(base, name)
}

await rm(base, { recursive: true, force: true })
const primary = await startPrimary({ checkout, directory: place('bench-primary'), databases: ['feed'], durable: true })
const env = {
  PATH: process.env['PATH'],
  DATABASE_URL: primary.url('feed'),
  STORAGE_URL: `file://${base}`,
  SECRET_KEY: 'a key for benchmarks, of no worth at all',
}
const migration = spawn(process.execPath, ['scripts/migrate.ts'], { cwd: checkout, env, stdio: ['ignore', 'ignore', 'inherit'] })
const [migrated] = (await once(migration, 'exit')) as [number]
if (migrated !== 0) throw new Error(`the migration ended with ${migrated}`)

const config = loadConfig(env)
const log = createLogger({ process: 'bench', level: 'warn' })
const [node] = config.nodes
if (node === undefined) throw new Error('there is one node')
const urls: string[] = []
for (let number = 1; number <= REPLICAS; number++) {
  const name = `bench_replica_${number}`
  const standby = await startStandby({ checkout, directory: place(name), durable: true, name, primary })
  urls.push(standby.url('feed'))
}

/** Reads for RUN_SECONDS; gives pages for each second of the primary's processor time. */
async function read(router: AppRouter): Promise<{ pages: number; perCpuSecond: number }> {
  const postmaster = (await primary.pid()) ?? 0
  let position = await readFlushedPosition(router.directory.primary)
  const until = performance.now() + RUN_SECONDS * 1_000
  const write = async (): Promise<void> => {
    while (performance.now() < until) {
      await router.write(shardOf(viewerId), (trx) =>
        trx.updateTable('accounts').set({ bio: String(Math.random()) }).where('id', '=', viewerId).execute(),
      )
      position = await readFlushedPosition(router.directory.primary)
      await sleep(WRITE_EVERY_MS)
    }
  }
  let pages = 0
  const reader = async (): Promise<void> => {
    for (; performance.now() < until; pages++) {
      const { history, lsn } = position
      const reading = router.forReader({ reach: () => Promise.resolve(new Map([[history, lsn]])) })
      const context: FeedContext = { router: reading, cache: noCache, config, clock: systemClock }
      const { photos } = await readFeed(context, viewerId, PAGE)
      if (photos.length !== PAGE.limit) throw new Error(`the page has ${photos.length} photos`)
    }
  }
  const before = await serverCpuSeconds(postmaster)
  await Promise.all([write(), ...Array.from({ length: READERS }, reader)])
  return { pages, perCpuSecond: pages / ((await serverCpuSeconds(postmaster)) - before) }
}

const viewerId = packId({ ms: Date.now(), shard: 0, sequence: 0 })
const cases: Record<string, () => Promise<number>> = {}
const totals = new Map<string, { pages: number; readonly reads: Record<ReadTarget, number> }>()
for (let count = 0; count <= REPLICAS; count++) {
  const name = `${count} replicas`
  const reads = { replica: 0, primary: 0, displaced: 0, shed: 0 }
  const total = { pages: 0, reads }
  totals.set(name, total)
  const replicas = urls.slice(0, count).map((url, index) => ({ name: `replica ${index + 1}`, url }))
  const router = await openRouter<Database>(
    {
      nodes: [{ ...node, replicas }],
      poolMax: 8,
      applicationName: 'bench',
      replicas: { ...LIMITS, metrics: { read: (_node, target) => reads[target]++, replica: () => {} } },
    },
    log,
  )
  closing.defer(() => router.close())
  if (count === 0) {
    await router.write(0, (trx) =>
      trx
        .insertInto('accounts')
        .values({ id: viewerId, status: 'active', username: 'reader', display_name: 'Reader', email: null, feed_floor: packId({ ms: Date.now() - 90 * 86_400_000, shard: 0, sequence: 0 }) })
        .execute(),
    )
    await fillFeed(router, viewerId, { authors: AUTHORS, photosEach: PHOTOS_EACH, nowMs: Date.now() })
  }
  cases[name] = async () => {
    const { pages, perCpuSecond } = await read(router)
    total.pages += pages
    return perCpuSecond
  }
}

printRates('pages per CPU second of the primary', await compareRounds(cases, { rounds: ROUNDS }))
for (const [name, { pages, reads }] of totals) {
  const all = reads.replica + reads.primary + reads.displaced
  const share = all === 0 ? 0 : reads.replica / all
  const perSecond = pages / ((ROUNDS + 1) * RUN_SECONDS)
  console.log(`${name}: ${Math.round(perSecond)} pages/s, ${(share * 100).toFixed(0)} % of reads on replicas`)
}
