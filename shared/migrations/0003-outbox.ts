import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * The transactional outbox, one row per event and queue, and the dead letters that it gives up on.
 *
 * available_at is the one moment that matters to a claim: when the row may next be taken. A delay and a retry put
 * it in the future, and so does a claim (by its visibility), so a claim that is abandoned comes due by itself and
 * outbox_due needs no other column. claim_token is the fence: whoever holds the row's present token may settle it.
 *
 * Every row is written, updated once and deleted within moments, hence the eager vacuum without a scale factor.
 */
export const outbox: Migration = {
  name: '0003-outbox',
  async up(trx) {
    await sql`create table outbox (
      id bigint generated always as identity primary key,
      message_id uuid not null,
      queue text not null,
      event text not null,
      body jsonb not null,
      request_id text,
      enqueued_at timestamptz not null default now(),
      available_at timestamptz not null default now(),
      claim_token uuid,
      attempts smallint not null default 0,
      cause text,
      detail text
    ) with (
      fillfactor = 50,
      autovacuum_vacuum_scale_factor = 0,
      autovacuum_vacuum_threshold = 2000,
      autovacuum_vacuum_insert_threshold = -1,
      autovacuum_analyze_scale_factor = 0,
      autovacuum_analyze_threshold = 20000,
      autovacuum_vacuum_cost_delay = 0
    )`.execute(trx)
    await sql`create index outbox_due on outbox (queue, available_at)`.execute(trx)
    await sql`create table dead_letters (
      id bigint generated always as identity primary key,
      message_id uuid not null,
      queue text not null,
      event text not null,
      body jsonb not null,
      request_id text,
      enqueued_at timestamptz not null,
      attempts smallint not null,
      cause text not null,
      detail text not null,
      failed_at timestamptz not null default now()
    )`.execute(trx)
    // A broker may bring the same letter twice; messages of strangers, which have no id, are each a letter of their own.
    await sql`create unique index dead_letters_once on dead_letters (message_id, queue)
      where message_id <> '00000000-0000-0000-0000-000000000000'`.execute(trx)
    await sql`create index dead_letters_by_queue on dead_letters (queue, id)`.execute(trx)
  },
}
