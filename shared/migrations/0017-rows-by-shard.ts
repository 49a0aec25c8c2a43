import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/** How the rows of one logical shard are found when it moves; all others go by the ids of its accounts. */
export const rowsByShard: Migration = {
  name: '0017-rows-by-shard',
  async up(trx) {
    await sql`create index accounts_by_shard on accounts (((id >> 10) & 8191))`.execute(trx)
    await sql`create index photos_by_shard on photos (((id >> 10) & 8191))`.execute(trx)
    await sql`create index usernames_by_shard on usernames (shard)`.execute(trx)
    await sql`create index emails_by_shard on emails (shard)`.execute(trx)
    await sql`create index anonymous_idempotency_keys_by_shard on anonymous_idempotency_keys (shard)`.execute(trx)
  },
}
