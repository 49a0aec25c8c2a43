import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * Idempotency keys of requests that come before there is an account to keep them with: signing up. They route by hash,
 * so they store their shard. The request is known before the work, so its fingerprint is there from the beginning.
 */
export const anonymousIdempotency: Migration = {
  name: '0011-anonymous-idempotency',
  async up(trx) {
    await sql`create table anonymous_idempotency_keys (
      key text primary key,
      shard smallint not null,
      resource_id bigint not null,
      locked_until timestamptz not null,
      fingerprint text not null,
      status smallint,
      response jsonb,
      created_at timestamptz not null default now()
    )`.execute(trx)
    await sql`create index anonymous_idempotency_keys_by_age on anonymous_idempotency_keys (created_at)`.execute(trx)
  },
}
