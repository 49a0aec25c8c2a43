import type { Shard } from '#kernel/snowflake.ts'
import type { TierNode } from './tier.ts'

/**
 * The shards of which a node has rows of people's: of their ids and of their names.
 *
 * @param withOld also those whose rows it has still, or already, while they are elsewhere
 */
export async function peopledShards({ primary }: TierNode, withOld = false): Promise<Shard[]> {
  const rows = await primary.sql(`select distinct shard::int from (
      select (id >> 10) & 8191 as shard from accounts union all select shard from usernames) as s
    where $1 or shard not in (select shard from shard_state)`, [withOld])
  return rows.map((row) => (row as { shard: number }).shard)
}
