import { sql, type Kysely } from 'kysely'
import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'

/** Which node holds each logical shard, as of one version of the map. */
export interface ShardMap {
  readonly version: bigint
  /** Node names by logical shard: 8,192 entries. */
  readonly nodeNames: readonly string[]
  /** Shards whose move is announced: they may change nodes at any moment. */
  readonly moving: ReadonlySet<Shard>
  /** How readily new accounts go to the shards of a node, 0 to `WEIGHT_MAX`; of those that are not in it as readily as may be. */
  readonly weights: ReadonlyMap<string, number>
}

/** The weight of a node of which nothing is said. */
export const WEIGHT_MAX = 100

/**
 * Reads the map from the directory in one statement.
 *
 * @throws Error when the map is missing or has holes, with the command that makes it
 */
export async function readShardMap<DB>(directory: Kysely<DB>): Promise<ShardMap> {
  const { rows } = await sql<{ version: bigint; shard: Shard; node: string; moving: boolean; weight: number | null }>`
    select v.version, m.shard, m.node, s.shard is not null as moving, w.weight
    from shard_map_version v cross join shard_map m
      left join shard_moves s on s.shard = m.shard left join node_weights w on w.node = m.node
    order by m.shard`.execute(directory)
  const version = rows[0]?.version
  if (version === undefined || rows.length !== SHARD_COUNT) {
    throw new Error(
      `The directory maps ${rows.length} of ${SHARD_COUNT} logical shards. Run \`node scripts/migrate.ts\` first.`,
    )
  }
  return {
    version,
    nodeNames: rows.map((row) => row.node),
    moving: new Set(rows.flatMap((row) => (row.moving ? [row.shard] : []))),
    weights: new Map(rows.flatMap(({ node, weight }) => (weight === null ? [] : [[node, weight] as const]))),
  }
}

/** The version of the directory's map alone; undefined when there is none. */
export async function readMapVersion<DB>(directory: Kysely<DB>): Promise<bigint | undefined> {
  const { rows } = await sql<{ version: bigint }>`select version from shard_map_version`.execute(directory)
  return rows[0]?.version
}

/**
 * Spreads all logical shards evenly over the nodes, in contiguous runs, if no map exists yet.
 * An existing map is left alone: shards change nodes only by being moved.
 */
export async function createShardMap<DB>(directory: Kysely<DB>, nodeNames: readonly string[]): Promise<void> {
  await directory.transaction().execute(async (trx) => {
    const first = await sql`insert into shard_map_version (version) values (1)
      on conflict do nothing returning version`.execute(trx)
    if (first.rows.length === 0) return
    await sql`
      insert into shard_map (shard, node)
      select shard, (${sql.val(nodeNames)}::text[])[1 + shard * ${nodeNames.length}::int / ${SHARD_COUNT}::int]
      from generate_series(0, ${SHARD_COUNT - 1}::int) as shard`.execute(trx)
  })
}
