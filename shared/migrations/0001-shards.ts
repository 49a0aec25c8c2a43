import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * The shard map (filled in the directory only), the node's list of shards on the move, and the door.
 *
 * enter_shard takes the shard's lock first and reads shard_state in a later statement: a volatile function
 * takes a new snapshot for each, so a move that committed while we waited for the lock is seen.
 * Its number, 7301, is ADVISORY_LOCKS.door; a migration keeps what it was written with.
 * It also sets the transaction's bounds, which PgBouncer in transaction mode would not take at start-up.
 */
export const shards: Migration = {
  name: '0001-shards',
  async up(trx) {
    await sql`create table shard_map (
      shard smallint primary key check (shard between 0 and 8191),
      node text not null
    )`.execute(trx)
    await sql`create table shard_map_version (
      only_row boolean primary key default true check (only_row),
      version bigint not null
    )`.execute(trx)
    await sql`create table shard_state (
      shard smallint primary key,
      state text not null check (state in ('arriving', 'departed'))
    )`.execute(trx)
    await sql`
      create function enter_shard(entered int) returns void language plpgsql volatile as $$
      begin
        perform set_config('statement_timeout', '15s', true), set_config('lock_timeout', '10s', true),
          set_config('idle_in_transaction_session_timeout', '20s', true);
        perform pg_advisory_xact_lock_shared(7301, entered);
        if exists (select from shard_state where shard = entered) then
          raise exception 'logical shard % is not at home on this node', entered using errcode = 'MG001';
        end if;
      end $$`.execute(trx)
  },
}
