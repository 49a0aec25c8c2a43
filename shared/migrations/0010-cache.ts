import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * What keeps the cache from ever telling an old story (see shared/platform/memcached).
 *
 * cache_invalidations, on every node: the keys that a transaction has made stale, written in that transaction while
 * the cache is on, deleted once memcached has confirmed the deletes. Hence the eager vacuum without a scale factor.
 *
 * cache_state and cache_users, in the directory: the generation that keys carry, the rings that deletes go to, and
 * who uses the cache now.
 */
export const cache: Migration = {
  name: '0010-cache',
  async up(trx) {
    await sql`create table cache_invalidations (
      id bigint generated always as identity primary key,
      keys text[] not null,
      recorded_at timestamptz not null default now()
    ) with (
      autovacuum_vacuum_scale_factor = 0,
      autovacuum_vacuum_threshold = 2000,
      autovacuum_vacuum_insert_threshold = -1,
      autovacuum_analyze_scale_factor = 0,
      autovacuum_analyze_threshold = 20000,
      autovacuum_vacuum_cost_delay = 0
    )`.execute(trx)
    await sql`create table cache_state (
      only_row boolean primary key default true check (only_row),
      generation bigint not null default 0,
      ring text,
      other_ring text,
      other_since timestamptz,
      usable_from timestamptz not null default now(),
      was_off boolean not null default false
    )`.execute(trx)
    await sql`comment on column cache_state.ring is 'the servers of the ring that is read; null: the cache is off'`.execute(trx)
    await sql`comment on column cache_state.other_since is 'since when every process deletes on the other ring too'`.execute(trx)
    await sql`comment on column cache_state.was_off is 'a process without the cache has ever started'`.execute(trx)
    await sql`insert into cache_state default values`.execute(trx)
    await sql`create table cache_users (
      user_id uuid primary key,
      ring text not null,
      other_ring text,
      generation bigint,
      seen_at timestamptz not null
    )`.execute(trx)
    await sql`comment on column cache_users.generation is 'the one it reads; null: none'`.execute(trx)
  },
}
