import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'

/**
 * Reads a list of logical shards such as `0-4095,7`; gives each once, in their order.
 *
 * @throws RangeError that says what is wrong with it
 */
export function parseShards(text: string): Shard[] {
  const shards = new Set<Shard>()
  for (const part of text.split(',')) {
    const [, first, last] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? []
    const from = Number(first)
    const to = Number(last ?? first)
    if (!(from <= to && to < SHARD_COUNT)) {
      throw new RangeError(`"${part}" is not a logical shard, 0 to ${SHARD_COUNT - 1}, nor a range such as 0-4095`)
    }
    for (let shard = from; shard <= to; shard++) shards.add(shard)
  }
  return [...shards].sort((a, b) => a - b)
}

/** Writes shards, in ascending order, as the shortest list that `parseShards` reads. */
export function formatShards(shards: readonly Shard[]): string {
  const ranges: { from: Shard; to: Shard }[] = []
  for (const shard of shards) {
    const last = ranges.at(-1)
    if (last !== undefined && shard === last.to + 1) last.to = shard
    else ranges.push({ from: shard, to: shard })
  }
  return ranges.map(({ from, to }) => (from === to ? String(from) : `${from}-${to}`)).join(',')
}
