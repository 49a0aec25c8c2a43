import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/**
 * Moves of logical shards. shard_moves, filled in the directory only, announces which shards are on the move: a process
 * that knows so asks the node before it believes what it has read there. shard_state says where a departed shard went,
 * and from where one arrives.
 */
export const shardMoves: Migration = {
  name: '0013-shard-moves',
  async up(trx) {
    await sql`create table shard_moves (
      shard smallint primary key check (shard between 0 and 8191),
      move_id uuid not null unique default gen_random_uuid(),
      source text not null,
      target text not null,
      announced_at timestamptz not null default now(),
      check (source <> target)
    )`.execute(trx)
    await sql`alter table shard_state
      add column peer text not null,
      add column move_id uuid not null,
      add column since timestamptz not null default now()`.execute(trx)
    // 'gone': departed, and its rows are deleted. The door still knows it; node-wide statements have nothing to leave out.
    await sql`alter table shard_state drop constraint shard_state_state_check`.execute(trx)
    await sql`alter table shard_state add constraint shard_state_state_check
      check (state in ('arriving', 'departed', 'gone'))`.execute(trx)
    await sql`create index shard_state_strays on shard_state (shard) where state <> 'gone'`.execute(trx)
    await sql`comment on column shard_state.peer is
      'the node that an arriving shard comes from, or that a departed one went to'`.execute(trx)
  },
}
