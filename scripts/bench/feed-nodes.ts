import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { systemClock } from '#kernel/clock.ts'
import { packId, SHARD_COUNT, type Id } from '#kernel/snowflake.ts'
import type { Database } from '#domain/database.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { readFeed, type FeedContext } from '#domain/feed/feed.reader.ts'
import { migrations } from '#migrations/migrations.ts'
import { loadConfig } from '#platform/config/config.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { noCache } from '#platform/memcached/cache.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { createShardMap } from '#platform/postgres/shard-map.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { fillFeed } from './filled-feed.ts'
import { compareRounds, printRates, type Rate } from './rounds.ts'

/**
 * The first page of a feed of 1,000 entries by 50 authors, data layer alone, without a cache: on one node, on two and on
 * four, which are databases of one server. So what differs is what we do for more nodes: more statements, each for fewer
 * rows. The first case is the one to compare with.
 */
const NODE_COUNTS = [1, 2, 4]
const AUTHORS = 50
const PHOTOS_EACH = 20
const PAGE = 20
const READERS = 8
const RUN_MS = 2_000
const POOL_CONNECTIONS = 4

const log = createLogger({ process: 'bench', level: 'warn' })
const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-feed-nodes')
const nowMs = Date.now()
const viewerId = packId({ ms: nowMs - 1, shard: 0, sequence: 0 })
await removeEmbeddedPostgres(checkout, directory)
const names = NODE_COUNTS.map((count) => Array.from({ length: count }, (_, index) => `feed_${count}_${index}`))
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: names.flat(), durable: true })
await using closing = new AsyncDisposableStack()
closing.defer(() => rm(directory, { recursive: true, force: true }))
closing.defer(() => removeEmbeddedPostgres(checkout, directory))

async function openFeed(databases: readonly string[]): Promise<FeedContext> {
  const nodes = databases.map((name) => ({ name: name.toUpperCase(), url: postgres.url(name) }))
  for (const [index, node] of nodes.entries()) {
    const db = openPool<Database>({ url: node.url, max: 1, applicationName: 'bench set-up' }, log)
    await migrateNode(db, migrations)
    if (index === 0) await createShardMap(db, nodes.map(({ name }) => name))
    await ensurePartitions(db, nowMs)
    await db.destroy()
  }
  const router = await openRouter<Database>({ nodes, poolMax: POOL_CONNECTIONS, applicationName: 'bench' }, log)
  closing.defer(() => router.close())
  await router.write(0, (trx) =>
    trx
      .insertInto('accounts')
      .values({ id: viewerId, status: 'active', username: 'reader', display_name: 'Reader', email: null, feed_floor: 0n as Id })
      .execute(),
  )
  await fillFeed(router, viewerId, { authors: AUTHORS, photosEach: PHOTOS_EACH, nowMs })
  const used = new Set(Array.from({ length: SHARD_COUNT }, (_, shard) => router.nodeOf(shard))).size
  if (used !== nodes.length) throw new Error(`the shards are on ${used} of ${nodes.length} nodes`)
  const config = loadConfig({
    DATABASE_URL: postgres.url(databases[0] ?? ''),
    STORAGE_URL: `file://${directory}`,
    SECRET_KEY: 'a key for benchmarks, of no worth at all',
  })
  return { router, cache: noCache, config, clock: systemClock }
}

async function pagesPerSecond(context: FeedContext): Promise<number> {
  const startMs = performance.now()
  let pages = 0
  const reader = async (): Promise<void> => {
    for (; performance.now() - startMs < RUN_MS; pages++) {
      const { photos } = await readFeed(context, viewerId, { before: null, limit: PAGE })
      if (photos.length !== PAGE) throw new Error(`the page has ${photos.length} photos`)
    }
  }
  await Promise.all(Array.from({ length: READERS }, reader))
  return (pages / (performance.now() - startMs)) * 1_000
}

const cases: [string, () => Promise<number>][] = []
for (const databases of names) {
  const context = await openFeed(databases)
  cases.push([`${databases.length} node(s)`, () => pagesPerSecond(context)])
}
const rates: Rate[] = await compareRounds(Object.fromEntries(cases))
printRates(`pages of ${PAGE}/s`, rates)
