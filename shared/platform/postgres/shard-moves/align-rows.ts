import type { Shard } from '#kernel/snowflake.ts'
import { copyRows, type CopyConnection } from './copy-connection.ts'
import {
  bucketOf,
  deleteBuckets,
  inBuckets,
  selectRows,
  type Bucket,
  type ShardedTable,
} from './sharded-table.ts'

/** What the rows of a shard are on one node: how many in each bucket, and the sum of their hashes. */
type Digest = ReadonlyMap<ShardedTable, ReadonlyMap<Bucket, BucketDigest>>

interface BucketDigest {
  readonly rows: number
  readonly checksum: string
}

/** Some of a shard's rows. */
export type Buckets = ReadonlyMap<ShardedTable, readonly Bucket[] | 'all'>

/** Columns by table, the same on both nodes. */
export type ColumnsOf = ReadonlyMap<string, readonly string[]>

/** Both ends of a copy, each in a transaction: a snapshot of the source, and the target to be changed. */
export interface Ends {
  readonly source: CopyConnection
  readonly target: CopyConnection
}

/**
 * To be said in both transactions: rows are found through the indexes that begin with what routes them, though nothing
 * may be known yet of how many there are.
 */
export const STEADY = `select set_config('enable_seqscan', 'off', true),
  set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`

/**
 * Makes the target's rows of a shard those of the source: compares counts and checksums of all buckets, copies those that
 * differ, and compares these again. When it finds no difference, it has verified all.
 *
 * @param suspects buckets whose checksums are compared, where that is not all of them: of the others the counts are
 * @returns how many rows the shard has in those tables
 * @throws Error when rows differ after they were copied
 */
export async function alignRows(
  ends: Ends,
  tables: readonly ShardedTable[],
  columnsOf: ColumnsOf,
  shard: Shard,
  suspects?: Buckets,
): Promise<number> {
  const compare = async (part: Buckets, summed = part): Promise<[Digest, Buckets]> => {
    const [there, here] = await Promise.all([
      readDigest(ends.source, part, shard, summed),
      readDigest(ends.target, part, shard, summed),
    ])
    return [there, differences(there, here)]
  }
  const [all, difference] = await compare(allOf(tables), suspects)
  const rows = countRows(all)
  if (difference.size === 0) return rows
  await copyBuckets(ends, tables, columnsOf, shard, difference)
  const [, still] = await compare(difference)
  const [wrong] = still.keys()
  if (wrong !== undefined) throw new Error(`Rows of ${wrong.name} differ after they were copied.`)
  return rows
}

/** As `alignRows`, but nothing is verified, and where nothing is yet nothing is compared. */
export async function copyAhead(ends: Ends, tables: readonly ShardedTable[], columnsOf: ColumnsOf, shard: Shard): Promise<void> {
  const all = allOf(tables)
  const here = await readDigest(ends.target, all, shard)
  const part = countRows(here) === 0 ? all : differences(await readDigest(ends.source, all, shard), here)
  await copyBuckets(ends, tables, columnsOf, shard, part)
}

/** Those of the buckets that differ between the ends, each seen as of about now: what is on its way differs, too. */
export async function compareRows(ends: Ends, shard: Shard, part: Buckets): Promise<Buckets> {
  const [there, here] = await Promise.all([readDigest(ends.source, part, shard), readDigest(ends.target, part, shard)])
  return differences(there, here)
}

export const allOf = (tables: readonly ShardedTable[]): Buckets => new Map(tables.map((table) => [table, 'all']))

async function copyBuckets(
  { source, target }: Ends,
  tables: readonly ShardedTable[],
  columnsOf: ColumnsOf,
  shard: Shard,
  part: Buckets,
): Promise<void> {
  for (const table of tables.toReversed()) {
    const buckets = part.get(table)
    if (buckets !== undefined) await target.query(deleteBuckets(table, shard, buckets))
  }
  for (const table of tables) {
    const buckets = part.get(table)
    if (buckets === undefined) continue
    await copyRows(
      { connection: source, query: `select r.* from (${selectRows(table, shard)}) as r where ${inBuckets(table, buckets)}` },
      { connection: target, table: table.name, columns: columnsOf.get(table.name) ?? [] },
    )
  }
}

/** The columns of the tables on a node, in their order. */
export async function readColumns(connection: CopyConnection, tables: readonly ShardedTable[]): Promise<ColumnsOf> {
  const rows = await connection.query<{ name: string; columns: string[] }>(`
    select c.relname as name, array_agg(quote_ident(a.attname) order by a.attnum) as columns
    from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.oid = any ('{${tables.map(({ name }) => name).join(',')}}'::regclass[])
      and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    group by c.relname`)
  return new Map(rows.map(({ name, columns }) => [name, columns]))
}

async function readDigest(
  connection: CopyConnection,
  part: Buckets,
  shard: Shard,
  summed = part,
): Promise<Digest> {
  const tables = [...part.keys()]
  const selects = tables.map((table, index) => `select ${index} as "table", ${bucketOf(table)} as bucket, count(*)::int as rows,
      ${checksumOf(table, summed.get(table) ?? [])}::text as checksum
    from (${selectRows(table, shard)}) as r where ${inBuckets(table, part.get(table) ?? 'all')} group by 2`)
  const found = await connection.query<BucketDigest & { table: number; bucket: Bucket }>(selects.join(' union all '))
  const digest = new Map(tables.map((table) => [table, new Map<Bucket, BucketDigest>()]))
  for (const { table, bucket, rows, checksum } of found) {
    const of = tables[table]
    if (of !== undefined) digest.get(of)?.set(bucket, { rows, checksum })
  }
  return digest
}

/** Rows that are only counted need not be read where an index tells their buckets. */
function checksumOf(table: ShardedTable, buckets: readonly Bucket[] | 'all'): string {
  if (buckets.length === 0) return 'null'
  return `sum(case when ${inBuckets(table, buckets)} then hash_record_extended(r, 0) end)`
}

function differences(one: Digest, other: Digest): Buckets {
  const difference = new Map<ShardedTable, readonly Bucket[]>()
  for (const [table, buckets] of one) {
    const others = other.get(table)
    const all = new Set([...buckets.keys(), ...(others?.keys() ?? [])])
    const differing = [...all].filter((bucket) => {
      const [a, b] = [buckets.get(bucket), others?.get(bucket)]
      return a?.rows !== b?.rows || a?.checksum !== b?.checksum
    })
    if (differing.length > 0) difference.set(table, differing)
  }
  return difference
}

function countRows(digest: Digest): number {
  let rows = 0
  for (const buckets of digest.values()) for (const bucket of buckets.values()) rows += bucket.rows
  return rows
}
