import { randomInt } from 'node:crypto'
import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'
import { WEIGHT_MAX } from '#platform/postgres/shard-map.ts'
import type { AppRouter } from '../database.ts'

/** Even with 1 as the weight of every node so many draws find a shard, but for once in 20,000 times. */
const DRAWS_MAX = 1_000

/**
 * The logical shard of a new account: any, at random, those of a node with a lower weight more rarely. With all weights at
 * 0 it is any all the same, as nobody shall be turned away.
 *
 * @param random gives a whole number from 0 to below its argument
 */
export function chooseShard(router: Pick<AppRouter, 'weightOf'>, random: (below: number) => number = randomInt): Shard {
  let shard = random(SHARD_COUNT)
  for (let draw = 1; draw < DRAWS_MAX && random(WEIGHT_MAX) >= router.weightOf(shard); draw++) shard = random(SHARD_COUNT)
  return shard
}
