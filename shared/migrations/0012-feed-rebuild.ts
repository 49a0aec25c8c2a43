import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * What a rebuild of a feed goes by. feed_raises counts how often the account's floor was raised, so that a rebuild
 * notices one that came in between; rebuild_asked_at is null unless the feed is to be rebuilt, and then says since when.
 */
export const feedRebuild: Migration = {
  name: '0012-feed-rebuild',
  async up(trx) {
    await sql`alter table accounts add column feed_raises int not null default 0,
      add column rebuild_asked_at timestamptz`.execute(trx)
    await sql`create index accounts_to_rebuild on accounts (rebuild_asked_at)
      where rebuild_asked_at is not null`.execute(trx)
  },
}
