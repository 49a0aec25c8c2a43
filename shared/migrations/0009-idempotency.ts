import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/** What a key of the Idempotency-Key header stands for: the id minted before the work, and the answer after it. */
export const idempotency: Migration = {
  name: '0009-idempotency',
  async up(trx) {
    await sql`create table idempotency_keys (
      account_id bigint not null,
      key text not null,
      resource_id bigint not null,
      locked_until timestamptz not null,
      fingerprint text,
      status smallint,
      response jsonb,
      created_at timestamptz not null default now(),
      primary key (account_id, key)
    )`.execute(trx)
    await sql`create index idempotency_keys_by_age on idempotency_keys (created_at)`.execute(trx)
  },
}
