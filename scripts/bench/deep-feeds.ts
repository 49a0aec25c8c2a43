import { sql } from 'kysely'
import { firstIdAt, SHARD_COUNT, type Id } from '#kernel/snowflake.ts'
import type { Database, Db } from '#domain/database.ts'
import { ensurePartitions, partitionOf, partitionsAt } from '#domain/feed/feed.partitions.ts'
import { migrations } from '#migrations/migrations.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { createShardMap } from '#platform/postgres/shard-map.ts'
import type { Logger } from '#platform/logger/logger.ts'

/** What a benchmark's nodes hold before it begins. */
export interface DeepFeeds {
  readonly nodes: readonly { readonly name: string; readonly url: string }[]
  readonly authorId: Id
  readonly followersPerNode: number
  /** As many again that nobody uses any more. */
  readonly dormantPerNode: number
  readonly nowMs: number
  /** Entries of each feed in each month before this one, and in this one: a site that has been used for a while. */
  readonly entriesPerMonth: number
  readonly entriesThisMonth: number
}

/** Millions of rows in one statement. */
const SET_UP_TIMEOUT_MS = 600_000

/** The naive table: all feeds in one, without partitions. */
export const FLAT_TABLE = 'feed_flat'

/**
 * Migrates the nodes, gives the author its followers (as many on each node, on shards of that node) and every
 * follower a feed of earlier entries, in our table and in the naive one.
 */
export async function makeDeepFeeds(feeds: DeepFeeds, log: Logger): Promise<void> {
  const shardsPerNode = SHARD_COUNT / feeds.nodes.length
  for (const [index, node] of feeds.nodes.entries()) {
    const db = openPool<Database>({ url: node.url, max: 2, applicationName: 'bench set-up', queryTimeoutMs: SET_UP_TIMEOUT_MS }, log)
    await migrateNode(db, migrations)
    if (index === 0) await createShardMap(db, feeds.nodes.map(({ name }) => name))
    await ensurePartitions(db, feeds.nowMs)
    await makeFollowers(db, feeds, { first: index * shardsPerNode, count: shardsPerNode })
    await makeEntries(db, feeds)
    await db.destroy()
  }
}

async function makeFollowers(
  db: Db,
  feeds: DeepFeeds,
  shards: { readonly first: number; readonly count: number },
): Promise<void> {
  await sql`insert into follows (follower_id, followee_id, id, backfilled_at)
    select id, ${feeds.authorId}::bigint, id, now() from (
      select ((g * 997)::bigint << 23) | ((${shards.first}::bigint + g % ${shards.count}::bigint) << 10) as id
      from generate_series(1, ${feeds.followersPerNode + feeds.dormantPerNode}::int) as g) as follower`.execute(db)
  // Here and there among the others.
  await sql`update follows set active = false where follower_id in (
    select follower_id from follows order by hashint8(follower_id) limit ${feeds.dormantPerNode})`.execute(db)
}

async function makeEntries(db: Db, feeds: DeepFeeds): Promise<void> {
  const present = partitionOf(firstIdAt(feeds.nowMs))
  for (const { name, from } of partitionsAt(feeds.nowMs).filter((partition) => partition.from <= present.from)) {
    const entries = name === present.name ? feeds.entriesThisMonth : feeds.entriesPerMonth
    await sql`insert into ${sql.table(name)} (account_id, published_id, photo_id)
      select follower_id, ${from}::bigint + (n::bigint << 23), n from follows, generate_series(1, ${entries}::int) as n where active
      order by 2, 1`.execute(db)
  }
  await sql`create table ${sql.table(FLAT_TABLE)}
    (account_id bigint, published_id bigint, photo_id bigint, primary key (account_id, published_id))`.execute(db)
  await sql`insert into ${sql.table(FLAT_TABLE)} select * from feed_entries order by 1, 2`.execute(db)
  await sql`vacuum analyze`.execute(db)
}
