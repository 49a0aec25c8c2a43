import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * A photo and both facts its publication waits for: the renditions and the verdict. They are columns of one row
 * so that its lock orders the two workers. published_id is a Snowflake minted at publication, and the photo's
 * place in feeds and profiles.
 */
export const photos: Migration = {
  name: '0006-photos',
  async up(trx) {
    await sql`create table photos (
      id bigint primary key,
      account_id bigint not null,
      status text not null check (status in
        ('processing', 'published', 'review', 'rejected', 'failed', 'removed', 'deleted')),
      caption text not null,
      tags text[] not null,
      original_key text not null,
      original_bytes int not null,
      media_type text not null,
      width int,
      height int,
      blurhash text,
      taken_at timestamptz,
      renditions jsonb,
      verdict text check (verdict in ('clean', 'review', 'reject')),
      verdict_detail jsonb,
      failure_code text,
      failure_detail text,
      published_id bigint,
      fanned_out_at timestamptz,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      check ((status = 'published') <= (published_id is not null))
    )`.execute(trx)
    await sql`create index photos_timeline on photos (account_id, published_id desc)
      where status = 'published'`.execute(trx)
    await sql`create index photos_unfinished on photos (updated_at)
      where status in ('processing', 'deleted') or (status = 'published' and fanned_out_at is null)`.execute(trx)
    await sql`create table banned_hashes (
      hash text primary key check (hash ~ '^[0-9a-f]{64}$'),
      note text not null,
      created_at timestamptz not null default now()
    )`.execute(trx)
  },
}
