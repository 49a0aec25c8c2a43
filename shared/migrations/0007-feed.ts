import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * Feed entries, one row each, in monthly partitions by published_id, so that inserts stay in a few cached pages
 * and old entries leave by dropping a table. fanout_cursors keeps how far a photo's fan-out has come on this node.
 */
export const feed: Migration = {
  name: '0007-feed',
  async up(trx) {
    await sql`create table feed_entries (
      account_id bigint not null,
      published_id bigint not null,
      photo_id bigint not null,
      primary key (account_id, published_id)
    ) partition by range (published_id)`.execute(trx)
    await sql`create table fanout_cursors (
      photo_id bigint primary key,
      last_follower_id bigint not null,
      updated_at timestamptz not null default now()
    )`.execute(trx)
  },
}
