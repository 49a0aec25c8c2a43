import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * The id ledger, used in the directory only. A lease is a rectangle: a range of sequence numbers times a range of
 * id time (Unix milliseconds, from the epoch to the last millisecond that has ids). The exclusion constraint is what
 * makes ids unique; all the rest of the ledger only chooses rectangles that it will accept.
 */
export const idLedger: Migration = {
  name: '0002-id-ledger',
  async up(trx) {
    // A lease is known by a random uuid: a number from a sequence could be given twice if a failover loses grants.
    await sql`create table id_leases (
      lease_id uuid primary key default gen_random_uuid(),
      holder text not null,
      sequences int4range not null check (not isempty(sequences) and sequences <@ int4range(0, 1024)),
      period int8range not null check (not isempty(period) and period <@ int8range(1767225600000, 2866737227776)),
      granted_at timestamptz not null default clock_timestamp(),
      constraint id_leases_never_overlap exclude using gist (sequences with &&, period with &&)
    )`.execute(trx)
    await sql`create table id_ledger_state (
      only_row boolean primary key default true check (only_row),
      timeline text not null,
      grants_from_ms bigint not null default 0
    )`.execute(trx)
    await sql`comment on column id_ledger_state.timeline is
      'the server''s WAL timeline at the last grant; another one means that a standby was promoted'`.execute(trx)
    await sql`comment on column id_ledger_state.grants_from_ms is
      'no lease begins before this Unix millisecond'`.execute(trx)
    await sql`insert into id_ledger_state (timeline) select left(pg_walfile_name(pg_current_wal_lsn()), 8)`.execute(trx)
  },
}
