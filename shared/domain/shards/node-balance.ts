import { sql } from 'kysely'
import { SHARD_COUNT } from '#kernel/snowflake.ts'
import { systemSleep } from '#platform/id-lease/sleep.ts'
import type { AppRouter, Db } from '../database.ts'
import { SHARDED_TABLES } from './sharded-tables.ts'

/** How much of everything a node has, as PostgreSQL's statistics say: what shards have left there counts until it is deleted. */
export interface NodeBalance {
  readonly name: string
  readonly shards: number
  readonly accounts: number
  /** Of all sharded tables, feeds included. */
  readonly rows: number
  readonly bytes: number
  /** Rows inserted, updated and deleted, of all our tables: jobs are as much work as what they are about. */
  readonly writesPerSecond: number
}

/**
 * How the shards and what is in them are spread over the nodes.
 *
 * @param sampleMs for how long writes are watched; servers count them with a delay of up to a second
 * @throws whatever a node says
 */
export async function readBalance(
  router: AppRouter,
  sampleMs: number,
  sleep: (ms: number) => Promise<void> = systemSleep,
): Promise<NodeBalance[]> {
  const look = (): Promise<Sizes[]> => Promise.all(router.nodes.map(({ primary }) => readSizes(primary)))
  const before = await look()
  await sleep(sampleMs)
  const after = await look()
  const all = Array.from({ length: SHARD_COUNT }, (_, shard) => router.nodeOf(shard).name)
  return router.nodes.map(({ name }, index) => {
    const [then, now] = [before[index] ?? NOTHING, after[index] ?? NOTHING]
    return {
      name,
      shards: all.filter((node) => node === name).length,
      accounts: now.accounts,
      rows: now.rows,
      bytes: now.bytes,
      // A server that was killed meanwhile begins to count anew.
      writesPerSecond: (Math.max(0, now.writes - then.writes) * 1_000) / (now.atMs - then.atMs),
    }
  })
}

interface Sizes {
  readonly accounts: number
  readonly rows: number
  readonly bytes: number
  readonly writes: number
  /** When it was so, by the node's clock. */
  readonly atMs: number
}

const NOTHING: Sizes = { accounts: 0, rows: 0, bytes: 0, writes: 0, atMs: 0 }

/**
 * A server that was killed, or promoted, has forgotten how many rows are alive in a table until it is next vacuumed or
 * analysed; the catalogue has not.
 */
async function readSizes(db: Db): Promise<Sizes> {
  const names = [...SHARDED_TABLES.moved, ...SHARDED_TABLES.left].map(({ name }) => name)
  const { rows } = await sql<Sizes>`
    with tables as (
      select c.relname as name,
        c.relname = any(${names}::text[]) or c.relname ~ '^feed_entries_[0-9]{4}_[0-9]{2}$' as sharded,
        case when coalesce(s.last_vacuum, s.last_autovacuum, s.last_analyze, s.last_autoanalyze) is null
          then greatest(s.n_live_tup, c.reltuples) else s.n_live_tup end as rows,
        s.n_tup_ins + s.n_tup_upd + s.n_tup_del as writes,
        c.oid
      from pg_stat_user_tables s join pg_class c on c.oid = s.relid and c.relkind = 'r'
    )
    select coalesce(sum(rows) filter (where name = 'accounts'), 0)::float8 as accounts,
      coalesce(sum(rows) filter (where sharded), 0)::float8 as rows,
      coalesce(sum(pg_total_relation_size(oid)) filter (where sharded), 0)::float8 as bytes,
      coalesce(sum(writes), 0)::float8 as writes,
      (extract(epoch from statement_timestamp()) * 1000)::float8 as "atMs"
    from tables`.execute(db)
  return rows[0] ?? NOTHING
}
