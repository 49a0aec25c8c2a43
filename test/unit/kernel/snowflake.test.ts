import fc from 'fast-check'
import t from 'tap'
import {
  EPOCH_MS, firstIdAt, LAST_MS, MAX_ID, msOf, packId, parseId, SEQUENCE_COUNT, SHARD_COUNT, shardOf, unpackId,
} from '#kernel/snowflake.ts'

const parts = fc.record({
  ms: fc.integer({ min: EPOCH_MS, max: LAST_MS }),
  shard: fc.integer({ min: 0, max: SHARD_COUNT - 1 }),
  sequence: fc.integer({ min: 0, max: SEQUENCE_COUNT - 1 }),
})

t.test('the layout is 41 / 13 / 10 from 2026-01-01', async (t) => {
  t.equal(packId({ ms: EPOCH_MS, shard: 0, sequence: 0 }), 0n)
  t.equal(packId({ ms: EPOCH_MS, shard: 0, sequence: 1 }), 1n)
  t.equal(packId({ ms: EPOCH_MS, shard: 1, sequence: 0 }), 1n << 10n)
  t.equal(packId({ ms: EPOCH_MS + 1, shard: 0, sequence: 0 }), 1n << 23n)
  t.equal(packId({ ms: LAST_MS, shard: SHARD_COUNT - 1, sequence: SEQUENCE_COUNT - 1 }), MAX_ID)
  t.equal(new Date(EPOCH_MS).toISOString(), '2026-01-01T00:00:00.000Z')
  t.equal(new Date(LAST_MS).toISOString().slice(0, 10), '2060-11-03')
})

t.test('unpacking gives back what was packed, and an id routes itself', async () => {
  fc.assert(
    fc.property(parts, (p) => {
      const id = packId(p)
      const back = unpackId(id)
      return back.ms === p.ms && back.shard === p.shard && back.sequence === p.sequence && shardOf(id) === p.shard &&
        msOf(id) === p.ms && BigInt.asIntN(64, id) === id
    }),
  )
})

t.test('ids sort by time, then shard, then sequence', async () => {
  fc.assert(
    fc.property(parts, parts, (a, b) => {
      const expected = a.ms - b.ms || a.shard - b.shard || a.sequence - b.sequence
      const difference = packId(a) - packId(b)
      return Math.sign(expected) === (difference > 0n ? 1 : difference < 0n ? -1 : 0)
    }),
  )
})

t.test('the first id of a millisecond bounds all of it', async () => {
  fc.assert(fc.property(parts, (p) => firstIdAt(p.ms) <= packId(p) && (p.ms === EPOCH_MS || firstIdAt(p.ms - 1) < packId(p))))
})

t.test('a field outside its range is refused', async (t) => {
  const good = { ms: EPOCH_MS, shard: 0, sequence: 0 }
  for (const bad of [
    { ms: EPOCH_MS - 1 }, { ms: LAST_MS + 1 }, { ms: EPOCH_MS + 0.5 }, { ms: NaN }, { shard: -1 }, { shard: SHARD_COUNT },
    { shard: 1.5 }, { sequence: -1 }, { sequence: SEQUENCE_COUNT },
  ]) {
    t.throws(() => packId({ ...good, ...bad }), RangeError, JSON.stringify(bad))
  }
})

t.test('an id is read from canonical decimal text only', async (t) => {
  fc.assert(fc.property(fc.bigInt({ min: 1n, max: MAX_ID }), (id) => parseId(id.toString()) === id))
  fc.assert(fc.property(fc.string(), (text) => {
    const id = parseId(text)
    return id === undefined || id.toString() === text
  }))
  for (const text of ['', '0', '-1', '+1', '01', '1.0', '1e3', ' 1', '1 ', '1n', '0x10', '9223372036854775808', '9'.repeat(400), '１']) {
    t.equal(parseId(text), undefined, text)
  }
  t.equal(parseId('9223372036854775807'), MAX_ID)
})
