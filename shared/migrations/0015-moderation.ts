import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/** What moderators do with a photo that is held, in its own row, so that it goes wherever the photo goes. */
export const moderation: Migration = {
  name: '0015-moderation',
  async up(trx) {
    await sql`alter table photos
      add column claimed_by bigint,
      add column claimed_until timestamptz,
      add column decided_by bigint,
      add column decided_at timestamptz,
      add column decision_note text`.execute(trx)
    await sql`create index photos_held on photos (id) where status = 'review'`.execute(trx)
  },
}
