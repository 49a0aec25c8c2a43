import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * Accounts that nobody has used for a month. Their follows are marked too, so that a fan-out passes them over without a
 * look at the account: its index has only those that it writes to.
 */
export const dormantAccounts: Migration = {
  name: '0014-dormant-accounts',
  async up(trx) {
    await sql`alter table accounts add column dormant boolean not null default false`.execute(trx)
    await sql`alter table follows add column active boolean not null default true`.execute(trx)
    await sql`comment on column follows.active is 'false while the follower is dormant'`.execute(trx)
    await sql`create index follows_fan_out on follows (followee_id, follower_id) where active`.execute(trx)
  },
}
