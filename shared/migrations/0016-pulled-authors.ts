import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * Photos that are not fanned out, as their authors have too many followers, and in the directory the authors that have
 * such photos, with the places between which these lie.
 */
export const pulledAuthors: Migration = {
  name: '0016-pulled-authors',
  async up(trx) {
    await sql`alter table accounts add column pull_from bigint, add column pull_epoch int not null default 0`.execute(trx)
    await sql`comment on column accounts.pull_from is
      'photos published at this place or later are pulled; null: they are fanned out'`.execute(trx)
    await sql`comment on column accounts.pull_epoch is 'how often the mode was ended'`.execute(trx)
    await sql`alter table photos add column pull boolean not null default false`.execute(trx)
    await sql`create table pulled_authors (
      author_id bigint primary key,
      first_published_id bigint not null,
      last_published_id bigint,
      epoch int not null,
      opened_at timestamptz not null default now()
    )`.execute(trx)
    await sql`comment on column pulled_authors.last_published_id is 'null: there may be more'`.execute(trx)
  },
}
