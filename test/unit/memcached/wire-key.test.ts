import fc from 'fast-check'
import t from 'tap'
import { wireKey } from '#platform/memcached/wire-key.ts'

const PREFIX = 'v123:'

t.test('every key is one that memcached takes', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (key) => {
      const wire = wireKey(PREFIX, key)
      return /^[\x21-\x7e]{1,250}$/.test(wire) && wire.startsWith(PREFIX)
    }),
  )
})

t.test('different keys stay different', async (t) => {
  const long = 'x'.repeat(246)
  const keys = ['photo:1', 'photo 1', 'photo\n1', long, `${long}a`, `${long}b`, '', 'é', 'e\u0301', wireKey('', 'é')]
  t.equal(new Set(keys.map((key) => wireKey(PREFIX, key))).size, keys.length)
})

t.test('a plain key stays readable', async (t) => {
  t.equal(wireKey(PREFIX, 'photo:42'), 'v123:photo:42')
  t.equal(wireKey(PREFIX, 'x'.repeat(245)).length, 250)
  t.equal(wireKey(PREFIX, 'x'.repeat(246)).length, PREFIX.length + 1 + 43)
})
