import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * One row is the whole follow; it lives with the follower. `id` is a Snowflake of the follower's shard and orders
 * both lists, newest first. The index by followee and follower is the fan-out's; backfilled_at is null until the
 * followee's earlier photos stand in the follower's feed.
 */
export const follows: Migration = {
  name: '0005-follows',
  async up(trx) {
    await sql`create table follows (
      follower_id bigint not null,
      followee_id bigint not null,
      id bigint not null,
      backfilled_at timestamptz,
      primary key (follower_id, followee_id)
    )`.execute(trx)
    await sql`create index follows_by_followee on follows (followee_id, follower_id)`.execute(trx)
    await sql`create index follows_newest_followers on follows (followee_id, id desc)`.execute(trx)
    await sql`create index follows_newest_followees on follows (follower_id, id desc)`.execute(trx)
    await sql`create index follows_not_backfilled on follows (follower_id) where backfilled_at is null`.execute(trx)
  },
}
