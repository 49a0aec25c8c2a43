import type { Shard } from '#kernel/snowflake.ts'

/**
 * A table whose rows belong to logical shards, as far as moving them needs to know. All of it is SQL of the domain's
 * own, over a row that is called `r`; a shard is a whole number, so it may stand in the text.
 */
export interface ShardedTable {
  readonly name: string
  /** The columns of the primary key. */
  readonly key: readonly string[]
  /** The condition that a row is of the shard, served by an index. */
  ofShard(shard: Shard): string
  /** An int4 that spreads the rows, and is the same for a row wherever it lies. */
  readonly spread: string
  /** A query for the rows as they are to arrive, which of arrived ones gives them as they are; when not said, it is these. */
  rows?(shard: Shard): string
}

/** A big one, whose rows PostgreSQL can tell by their replica identity alone, so that it may replicate those of a shard. */
export interface ReplicatedTable extends ShardedTable {
  /** The condition that a row is of the shard, over the columns of the primary key without a prefix. */
  published(shard: Shard): string
}

/** What becomes of the tables of a shard that moves. */
export interface ShardedTables {
  /** Copied; each after those by which its rows are found. */
  readonly moved: readonly ShardedTable[]
  /** Those of `moved` that travel by logical replication when it is asked for; after the others, which lead to them. */
  readonly replicated: readonly ReplicatedTable[]
  /** Not copied as they are, and deleted where the shard has left, before the rows of `moved`. */
  readonly left: readonly ShardedTable[]
}

/** Part of a shard's rows in one table: what differs is copied by whole buckets. */
export type Bucket = number

/** Small enough to copy again for one row, few enough to compare. */
const BUCKETS = 1_024

export function selectRows(table: ShardedTable, shard: Shard): string {
  return table.rows?.(shard) ?? `select r.* from ${table.name} as r where ${table.ofShard(shard)}`
}

export function bucketOf(table: ShardedTable): string {
  return `(${table.spread} & ${BUCKETS - 1})`
}

/** The condition that a row is in one of the buckets; `all`: no condition. */
export function inBuckets(table: ShardedTable, buckets: readonly Bucket[] | 'all'): string {
  return buckets === 'all' ? 'true' : `${bucketOf(table)} = any ('{${buckets.join(',')}}'::int[])`
}

/** Deletes the rows of those buckets. */
export function deleteBuckets(table: ShardedTable, shard: Shard, buckets: readonly Bucket[] | 'all'): string {
  return `delete from ${table.name} as r where ${table.ofShard(shard)} and ${inBuckets(table, buckets)}`
}

/** Deletes at most `limit` of the shard's rows. */
export function deleteSome(table: ShardedTable, shard: Shard, limit: number): string {
  const key = table.key.join(', ')
  return `delete from ${table.name} where (${key}) in (
    select ${table.key.map((column) => `r.${column}`).join(', ')} from ${table.name} as r
    where ${table.ofShard(shard)} limit ${limit})`
}
