import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import { SHARD_COUNT } from '#kernel/snowflake.ts'
import type { AppRouter, Db } from '../database.ts'
import { SHARDED_TABLES } from './sharded-tables.ts'

/** How much of everything a node has, as PostgreSQL's statistics say. */
export interface NodeBalance {
  readonly name: string
  readonly shards: number
  readonly accounts: number
  /** Of all sharded tables, feeds included. */
  readonly rows: number
  readonly bytes: number
  /** Rows inserted, updated and deleted. */
  readonly writesPerSecond: number
}

/**
 * How the shards and what is in them are spread over the nodes.
 *
 * @param sampleMs for how long writes are watched
 * @throws whatever a node says
 */
export async function readBalance(router: AppRouter, sampleMs: number): Promise<NodeBalance[]> {
  const look = (): Promise<Sizes[]> => Promise.all(router.nodes.map(({ primary }) => readSizes(primary)))
  const before = await look()
  await delay(sampleMs)
  const after = await look()
  const all = Array.from({ length: SHARD_COUNT }, (_, shard) => router.nodeOf(shard).name)
  return router.nodes.map(({ name }, index) => {
    const { accounts = 0, rows = 0, bytes = 0, writes = 0 } = after[index] ?? {}
    const written = writes - (before[index]?.writes ?? writes)
    return {
      name,
      shards: all.filter((node) => node === name).length,
      accounts,
      rows,
      bytes,
      writesPerSecond: (written * 1_000) / sampleMs,
    }
  })
}

interface Sizes {
  readonly accounts: number
  readonly rows: number
  readonly bytes: number
  readonly writes: number
}

async function readSizes(db: Db): Promise<Sizes> {
  const names = [...SHARDED_TABLES.moved, ...SHARDED_TABLES.left].map(({ name }) => name)
  const { rows } = await sql<Sizes>`
    select coalesce(sum(n_live_tup) filter (where relname = 'accounts'), 0)::float8 as accounts,
      coalesce(sum(n_live_tup), 0)::float8 as rows,
      coalesce(sum(pg_total_relation_size(relid)), 0)::float8 as bytes,
      coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::float8 as writes
    from pg_stat_user_tables
    where relname = any(${names}::text[]) or relname ~ '^feed_entries_[0-9]{4}_[0-9]{2}$'`.execute(db)
  return rows[0] ?? { accounts: 0, rows: 0, bytes: 0, writes: 0 }
}
