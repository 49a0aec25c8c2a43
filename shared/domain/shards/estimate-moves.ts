import { sql } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { STEADY } from '#platform/postgres/shard-moves/align-rows.ts'
import type { MoveVia } from '#platform/postgres/shard-moves/move-shard.ts'
import { selectRows } from '#platform/postgres/shard-moves/sharded-table.ts'
import type { AppRouter, Db } from '../database.ts'
import { arrivalMs } from './arrive-shard.ts'
import { SHARDED_TABLES } from './sharded-tables.ts'

/** What moving a shard would take. */
export interface MoveEstimate {
  readonly shard: Shard
  /** The node that it is on. */
  readonly source: string
  readonly rows: number
  /** With its share of the indexes. */
  readonly bytes: number
  /** For how long its writes would wait, roughly, and rather too long. */
  readonly pauseMs: number
}

/** Shards counted by one statement. */
const CHUNK_SHARDS = 4
/** What the pause goes into is comparing all rows: so many as two cores did beside a great deal of other work. */
const COMPARED_ROWS_PER_MS = 100
/** Of replicated rows only the counts are compared behind the door. */
const COUNTED_ROWS_PER_MS = 1_000
/** Locks, commits, the end of a subscription: whatever the shard's size. */
const LEAST_PAUSE_MS: Record<MoveVia, number> = { copy: 50, replication: 250 }
const NOTHING = { rows: 0, accounts: 0, replicatedRows: 0, bytes: 0 }

/**
 * Estimates the moves of shards, in their order, by counting their rows through indexes.
 *
 * @param onCounted is told how many more are counted
 * @param via how they are to be moved
 * @throws whatever a node says
 */
export async function estimateMoves(
  router: AppRouter,
  shards: readonly Shard[],
  onCounted: (shards: number) => void = () => {},
  via: MoveVia = 'copy',
): Promise<MoveEstimate[]> {
  const found: MoveEstimate[] = []
  for (const node of router.nodes) {
    const there = shards.filter((shard) => router.nodeOf(shard) === node)
    if (there.length === 0) continue
    const widths = await readWidths(node.primary)
    for (let start = 0; start < there.length; start += CHUNK_SHARDS) {
      const chunk = there.slice(start, start + CHUNK_SHARDS)
      const sizes = await countRows(node.primary, chunk, widths)
      for (const shard of chunk) {
        const { rows, accounts, replicatedRows, bytes } = sizes.get(shard) ?? NOTHING
        const countedRows = via === 'replication' ? replicatedRows : 0
        const comparedMs = (rows - countedRows) / COMPARED_ROWS_PER_MS + countedRows / COUNTED_ROWS_PER_MS
        const pauseMs = LEAST_PAUSE_MS[via] + comparedMs + arrivalMs(accounts)
        found.push({ shard, source: node.name, rows, bytes, pauseMs: Math.round(pauseMs) })
      }
      onCounted(chunk.length)
    }
  }
  return found.sort((a, b) => a.shard - b.shard)
}

type Widths = ReadonlyMap<string, number>

/** Bytes for each row, by table, indexes included. A table that was never analysed, as after a restore, has no `reltuples` yet. */
async function readWidths(db: Db): Promise<Widths> {
  const names = SHARDED_TABLES.moved.map(({ name }) => name)
  const { rows } = await sql<{ name: string; width: number }>`
    select relname as name, (pg_total_relation_size(oid) / greatest(reltuples, pg_stat_get_live_tuples(oid), 1))::float8 as width
    from pg_class where oid = any(${names}::text[]::regclass[])`.execute(db)
  return new Map(rows.map(({ name, width }) => [name, width]))
}

async function countRows(
  db: Db,
  shards: readonly Shard[],
  widths: Widths,
): Promise<Map<Shard, typeof NOTHING>> {
  const counts = shards.flatMap((shard) =>
    SHARDED_TABLES.moved.map((table) =>
      `select ${shard} as shard, '${table.name}' as name, count(*)::int as rows from (${selectRows(table, shard)}) as r`))
  const { rows } = await db.transaction().execute(async (trx) => {
    await sql.raw(STEADY).execute(trx)
    return sql<{ shard: Shard; name: string; rows: number }>`${sql.raw(counts.join(' union all '))}`.execute(trx)
  })
  const sizes = new Map(shards.map((shard) => [shard, { ...NOTHING }]))
  for (const counted of rows) {
    const size = sizes.get(counted.shard)
    if (size === undefined) continue
    size.rows += counted.rows
    if (counted.name === 'accounts') size.accounts += counted.rows
    if (SHARDED_TABLES.replicated.some(({ name }) => name === counted.name)) size.replicatedRows += counted.rows
    size.bytes += Math.round(counted.rows * (widths.get(counted.name) ?? 0))
  }
  return sizes
}
