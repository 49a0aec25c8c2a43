import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * Counts without a hot row: a change appends a delta in its own transaction, and a worker folds deltas into totals.
 * The true count is total plus pending deltas, at every moment, of every node: an account's followers are counted
 * where their follow rows live, so its count is the sum over the nodes.
 */
export const counters: Migration = {
  name: '0008-counters',
  async up(trx) {
    await sql`create table counters (
      subject_id bigint not null,
      kind text not null,
      total bigint not null,
      primary key (subject_id, kind)
    )`.execute(trx)
    await sql`create table counter_deltas (
      id bigint generated always as identity primary key,
      subject_id bigint not null,
      kind text not null,
      delta int not null
    )`.execute(trx)
    await sql`create index counter_deltas_by_subject on counter_deltas (subject_id)`.execute(trx)
  },
}
