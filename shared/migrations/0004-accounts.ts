import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/** People, how they sign in, and the names they hold. Names route by hash, so they store their shard. */
export const accounts: Migration = {
  name: '0004-accounts',
  async up(trx) {
    await sql`create table accounts (
      id bigint primary key,
      status text not null check (status in ('active', 'void', 'deleted')),
      role text not null default 'member' check (role in ('member', 'moderator')),
      username text not null,
      display_name text not null,
      bio text not null default '',
      email text,
      private boolean not null default false,
      feed_floor bigint not null,
      last_seen_at timestamptz not null default now(),
      created_at timestamptz not null default now()
    )`.execute(trx)
    await sql`create table credentials (
      account_id bigint primary key,
      password_hash text not null,
      updated_at timestamptz not null default now()
    )`.execute(trx)
    await sql`create table sessions (
      account_id bigint not null,
      id bigint not null,
      secret_hash bytea not null,
      user_agent text not null,
      created_at timestamptz not null default now(),
      last_seen_at timestamptz not null default now(),
      expires_at timestamptz not null,
      primary key (account_id, id)
    )`.execute(trx)
    await sql`create index sessions_by_expiry on sessions (expires_at)`.execute(trx)
    await sql`create table usernames (
      username text primary key,
      shard smallint not null,
      account_id bigint not null,
      reserved_at timestamptz not null default now(),
      claimed_at timestamptz
    )`.execute(trx)
    await sql`create index usernames_unclaimed on usernames (reserved_at) where claimed_at is null`.execute(trx)
    await sql`create table emails (
      email text primary key,
      shard smallint not null,
      account_id bigint not null,
      reserved_at timestamptz not null default now(),
      claimed_at timestamptz
    )`.execute(trx)
    await sql`create index emails_unclaimed on emails (reserved_at) where claimed_at is null`.execute(trx)
  },
}
