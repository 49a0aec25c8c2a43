import fc from 'fast-check'
import t from 'tap'
import { buildRing, placeKey } from '#kernel/hash-ring.ts'

const keys = Array.from({ length: 20_000 }, (_, i) => `photo:${String(i)}`)
const nodeNames = fc.uniqueArray(fc.tuple(fc.ipV4(), fc.integer({ min: 1, max: 65_535 })).map(([ip, port]) => `${ip}:${String(port)}`), {
  minLength: 4,
  maxLength: 4,
})

t.test('a fourth node takes at most 35 % of the keys, and nothing moves between the others', async (t) => {
  fc.assert(
    fc.property(nodeNames, (names) => {
      const three = buildRing(names.slice(0, 3))
      const four = buildRing(names)
      const moved = keys.filter((key) => placeKey(three, key) !== placeKey(four, key))
      return moved.length / keys.length <= 0.35 && moved.every((key) => placeKey(four, key) === names[3])
    }),
    { numRuns: 25 },
  )
  t.pass()
})

t.test('shares follow the weights', async (t) => {
  const names = ['a:11211', 'b:11211', 'c:11211']
  const ring = buildRing(names, new Map([['c:11211', 2]]))
  const shares = names.map((name) => keys.filter((key) => placeKey(ring, key) === name).length / keys.length)
  for (const [i, expected] of [0.25, 0.25, 0.5].entries()) {
    t.ok(Math.abs((shares[i] ?? 0) - expected) < 0.08, `${String(names[i])}: ${String(shares[i])}`)
  }
})

t.test('the order of the names does not matter', async () => {
  const there = buildRing(['a', 'b', 'c'])
  const back = buildRing(['c', 'b', 'a'])
  fc.assert(fc.property(fc.string(), (key) => placeKey(there, key) === placeKey(back, key)))
})

t.test('one node takes everything', async () => {
  const ring = buildRing(['only'])
  fc.assert(fc.property(fc.string(), (key) => placeKey(ring, key) === 'only'))
})

t.test('a ring that makes no sense is refused', async (t) => {
  t.throws(() => buildRing([]), RangeError)
  t.throws(() => buildRing(['a', 'a']), RangeError)
  t.throws(() => buildRing(['a'], new Map([['a', 0]])), RangeError)
  t.throws(() => buildRing(['a'], new Map([['a', NaN]])), RangeError)
})
