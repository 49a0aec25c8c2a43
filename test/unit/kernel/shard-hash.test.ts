import fc from 'fast-check'
import t from 'tap'
import { shardOfName } from '#kernel/shard-hash.ts'
import { SHARD_COUNT } from '#kernel/snowflake.ts'

t.test('these names live where they always lived: rows are stored by this', async (t) => {
  t.equal(shardOfName(''), 0)
  t.equal(shardOfName('ada'), 8_174)
  t.equal(shardOfName('ada@example.org'), 7_557)
  t.equal(shardOfName('straße'), 6_917)
})

t.test('case does not matter', async () => {
  fc.assert(fc.property(fc.stringMatching(/^[A-Za-z0-9_.]{3,30}$/), (name) => shardOfName(name) === shardOfName(name.toUpperCase())))
})

t.test('any text has a shard', async () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (name) => {
    const shard = shardOfName(name)
    return Number.isInteger(shard) && shard >= 0 && shard < SHARD_COUNT
  }))
})

t.test('names that differ by a counter spread evenly', async (t) => {
  const perShard = new Uint32Array(SHARD_COUNT)
  for (let i = 0; i < SHARD_COUNT * 32; i++) {
    const shard = shardOfName(`user${String(i)}`)
    perShard[shard] = (perShard[shard] ?? 0) + 1
  }
  // Poisson with mean 32: all of 8,192 shards stay within about six deviations.
  t.ok(Math.min(...perShard) > 4 && Math.max(...perShard) < 70)
})
