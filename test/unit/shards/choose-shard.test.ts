import t from 'tap'
import { SHARD_COUNT } from '#kernel/snowflake.ts'
import { chooseShard } from '#domain/shards/choose-shard.ts'
import { seededRandom } from '../../../scripts/pictures/random.ts'

const DRAWS = 4_000
const random = seededRandom(1)
const below = (bound: number): number => Math.floor(random() * bound)

/** The share of draws that go to the upper half of the shards. */
function share(lower: number, upper: number): number {
  const router = { weightOf: (shard: number) => (shard < SHARD_COUNT / 2 ? lower : upper) }
  const drawn = Array.from({ length: DRAWS }, () => chooseShard(router, below))
  return drawn.filter((shard) => shard >= SHARD_COUNT / 2).length / DRAWS
}

t.test('new accounts go where the weights say', (t) => {
  t.equal(share(0, 100), 1)
  t.ok(share(1, 0) < 0.02)
  t.ok(Math.abs(share(100, 100) - 0.5) < 0.05)
  t.ok(Math.abs(share(25, 75) - 0.75) < 0.05)
  t.ok(Math.abs(share(0, 0) - 0.5) < 0.05, 'nobody is turned away')
  t.end()
})
