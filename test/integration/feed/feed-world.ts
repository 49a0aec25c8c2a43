import { pathToFileURL } from 'node:url'
import { sql } from 'kysely'
import type { Test } from 'tap'
import { manualClock, type ManualClock } from '#kernel/clock.ts'
import { packId, SHARD_COUNT, shardOf, type Id, type Shard } from '#kernel/snowflake.ts'
import type { AppRouter, Database, Db } from '#domain/database.ts'
import { addDelta } from '#domain/counters/counters.queries.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { readFeed } from '#domain/feed/feed.reader.ts'
import { deleteFollow, insertFollow } from '#domain/follows/follows.queries.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { deletePhoto } from '#domain/photos/photos.queries.ts'
import { diskBlobStore } from '#platform/blob-store/disk.ts'
import type { BlobStore } from '#platform/blob-store/blob-store.ts'
import { loadConfig, type Config } from '#platform/config/config.ts'
import { createLogger, type Logger } from '#platform/logger/logger.ts'
import { createInvalidations, type Invalidations } from '#platform/memcached/invalidations.ts'
import { noCache, type Cache } from '#platform/memcached/cache.ts'
import type { Job } from '#platform/outbox/transport.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { createTestDatabase } from '../../support/database.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'

/** Noon in the middle of a month, so that no test straddles a partition by accident. */
export const NOW_MS = Date.UTC(2026, 10, 15, 12)
export const DAY_MS = 86_400_000

const POOL_CONNECTIONS = 6

/** A domain of this test's own, on one or two databases, without any process: the test is the scheduler. */
export interface FeedWorld {
  readonly router: AppRouter
  readonly cache: Cache
  readonly invalidations: Invalidations
  readonly clock: ManualClock
  readonly blobs: BlobStore
  readonly log: Logger
  readonly config: Config
  readonly dbs: readonly Db[]
  /** The next id of a shard; a millisecond passes first, so ids are in the order of their calls. */
  mint(shard: Shard, atMs?: number): Id
  /** Makes an account on a shard of the nth node; its floor is `floor` (0: all is stored). */
  person(options?: { node?: number; floor?: Id }): Promise<Id>
  /** Begins a follow that is not backfilled; gives its id. */
  follow(followerId: Id, followeeId: Id): Promise<Id>
  unfollow(followerId: Id, followeeId: Id): Promise<void>
  /** Makes a published photo, not fanned out; as if published at `atMs`. */
  publish(authorId: Id, atMs?: number): Promise<{ photoId: Id; publishedId: Id }>
  remove(authorId: Id, photoId: Id): Promise<void>
  /** The photos of all pages of a feed, read to the very end; every page but the last is seen to be full. */
  scroll(viewerId: Id, limit?: number): Promise<Id[]>
  /** The stored entries of an account, newest first, as photo ids. */
  stored(accountId: Id): Promise<Id[]>
}

export type NodeCount = 1 | 2 | 4

/** @param options.firstUrl, options.secondUrl migrated databases to be the first two nodes, in place of those that are made */
export async function openFeedWorld(
  t: Test,
  { nodes = 1, firstUrl, secondUrl }: { nodes?: NodeCount; firstUrl?: string; secondUrl?: string } = {},
): Promise<FeedWorld> {
  const names = ['DATABASE_URL', 'SECOND_URL', 'THIRD_URL', 'FOURTH_URL'].slice(0, nodes)
  const given = [firstUrl, secondUrl]
  const urls = await Promise.all(names.map(async (_, index) => given[index] ?? (await createTestDatabase(t)).url))
  const directory = await temporaryDirectory(t)
  const config = loadConfig({
    ...Object.fromEntries(names.map((name, index) => [name, urls[index]])),
    DATABASE_NODES: names.join(','),
    STORAGE_URL: pathToFileURL(directory).href,
    SECRET_KEY: 'a key of at least thirty-two characters',
  })
  const log = createLogger({ process: 'test', level: 'silent' })
  if (nodes > 1) await spreadShards(config)
  const clock = manualClock(NOW_MS)
  const router = await openRouter<Database>(
    {
      nodes: config.nodes,
      poolMax: POOL_CONNECTIONS,
      applicationName: 'feed test',
      onArrival: (trx, shard) => arriveShard(trx, shard, clock.nowMs()),
    },
    log,
  )
  t.teardown(() => router.close())
  const dbs = router.nodes.map((node) => node.primary)
  await Promise.all(dbs.map((db) => ensurePartitions(db, NOW_MS)))

  const cache = noCache
  const invalidations = createInvalidations(cache, log)
  const shardsPerNode = SHARD_COUNT / nodes
  let people = 0
  let sequence = 0

  function mint(shard: Shard, atMs?: number): Id {
    if (atMs === undefined) clock.advance(1)
    sequence = (sequence + 1) % 1024
    return packId({ ms: atMs ?? clock.nowMs(), shard, sequence })
  }

  return {
    router,
    cache,
    invalidations,
    clock,
    blobs: diskBlobStore({ directory }),
    log,
    config,
    dbs,
    mint,
    async person({ node = 0, floor = 0n as Id } = {}) {
      people++
      const id = mint(node * shardsPerNode + (people % shardsPerNode))
      const name = `person${people}`
      await router.write(shardOf(id), (trx) =>
        trx
          .insertInto('accounts')
          .values({ id, status: 'active', username: name, display_name: name, email: null, feed_floor: floor })
          .execute(),
      )
      return id
    },
    async follow(followerId, followeeId) {
      const id = mint(shardOf(followerId))
      await router.write(shardOf(followerId), (trx) => insertFollow(trx, { id, followerId, followeeId }))
      return id
    },
    async unfollow(followerId, followeeId) {
      await router.write(shardOf(followerId), (trx) => deleteFollow(trx, followerId, followeeId))
    },
    async publish(authorId, atMs) {
      const shard = shardOf(authorId)
      const photoId = mint(shard, atMs)
      const publishedId = mint(shard, atMs)
      await router.write(shard, async (trx) => {
        await trx
          .insertInto('photos')
          .values({
            id: photoId,
            account_id: authorId,
            status: 'published',
            caption: '',
            tags: [],
            original_key: `originals/${photoId}.jpg`,
            original_bytes: 1,
            media_type: 'image/jpeg',
            verdict: 'clean',
            renditions: '[]',
            published_id: publishedId,
          })
          .execute()
        await addDelta(trx, authorId, 'photos', 1)
      })
      return { photoId, publishedId }
    },
    async remove(authorId, photoId) {
      await deletePhoto({ router, invalidations }, authorId, photoId)
    },
    async scroll(viewerId, limit = 30) {
      const photos: Id[] = []
      let before: Id | null = null
      do {
        const page: Awaited<ReturnType<typeof readFeed>> = await readFeed({ router, cache, config, clock }, viewerId, { before, limit })
        if (page.next !== null && page.photos.length !== limit) throw new Error(`a page of ${page.photos.length} goes on`)
        photos.push(...page.photos.map(({ fragment }) => fragment.id))
        before = page.next
      } while (before !== null)
      return photos
    },
    async stored(accountId) {
      const rows = await router
        .nodeOf(shardOf(accountId))
        .primary
        .selectFrom('feed_entries')
        .select('photo_id')
        .where('account_id', '=', accountId)
        .orderBy('published_id', 'desc')
        .execute()
      return rows.map((row) => row.photo_id)
    },
  }
}

/** Writes into the directory's map that each node holds as many shards as the others, in runs. */
async function spreadShards(config: Config): Promise<void> {
  const directory = await openRouter<Database>(
    { nodes: config.nodes, poolMax: 1, applicationName: 'feed test set-up' },
    createLogger({ process: 'test', level: 'silent' }),
  )
  const names = config.nodes.map(({ name }) => name)
  await sql`update shard_map set node = (${names}::text[])[1 + shard * ${names.length}::int / ${SHARD_COUNT}::int]`.execute(directory.directory.primary)
  await directory.close()
}

/** A delivery of a message, for handlers that are called without a transport. */
export function delivery(signal: AbortSignal = new AbortController().signal): Job {
  return {
    id: '00000000-0000-4000-8000-000000000000',
    attempt: 1,
    requestId: null,
    signal,
    log: createLogger({ process: 'test', level: 'silent' }),
  }
}

/** The bodies of messages, as they travel. */
export function photoBody(photoId: Id): { photoId: string } {
  return { photoId: photoId.toString() }
}

export function followBody(followerId: Id, followeeId: Id): { followerId: string; followeeId: string } {
  return { followerId: followerId.toString(), followeeId: followeeId.toString() }
}
