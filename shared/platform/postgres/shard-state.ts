import { sql, type Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'

/** A logical shard that is not at home on a node. */
export interface StrayShard {
  readonly shard: Shard
  /** On its way here; gone away; gone away long ago, its rows deleted. */
  readonly state: 'arriving' | 'departed' | 'gone'
  /** The name of the node that it comes from or went to. */
  readonly peer: string
  /** Tells this move of the shard from all others. */
  readonly moveId: string
}

/** The shards whose rows node-wide statements leave out on a node: mostly none. */
export async function readStrays<DB>(db: Kysely<DB>): Promise<StrayShard[]> {
  const { rows } = await sql<StrayShard>`
    select shard, state, peer, move_id as "moveId" from shard_state where state <> 'gone' order by shard`.execute(db)
  return rows
}

/** Those of `shards` that are not at home on the node. */
export async function straysAmong<DB>(db: Kysely<DB>, shards: readonly Shard[]): Promise<StrayShard[]> {
  const { rows } = await sql<StrayShard>`
    select shard, state, peer, move_id as "moveId" from shard_state
    where shard = any(${shards}::smallint[])`.execute(db)
  return rows
}
