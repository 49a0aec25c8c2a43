import fc from 'fast-check'
import t from 'tap'
import { createIdMinter } from '#kernel/id-minter.ts'
import type { IdMinter, Rectangle } from '#kernel/id-minter.ts'
import { EPOCH_MS, LAST_MS, SHARD_COUNT, unpackId } from '#kernel/snowflake.ts'

const START_MS = Date.UTC(2026, 10, 22)
const rectangle = (part: Partial<Rectangle> = {}): Rectangle => ({
  firstSequence: 16,
  sequenceCount: 8,
  fromMs: START_MS,
  untilMs: START_MS + 60_000,
  ...part,
})

/** A minter whose clock the test sets, and the sequence numbers and milliseconds that it gives. */
function setUp(part: Partial<Rectangle> = {}): { minter: IdMinter; clock: { ms: number }; next: (shard: number) => unknown } {
  const clock = { ms: START_MS }
  const minter = createIdMinter(rectangle(part), () => clock.ms)
  const next = (shard: number): unknown => {
    const id = minter.mint(shard)
    if (typeof id !== 'bigint') return id
    const parts = unpackId(id)
    return [parts.ms - START_MS, parts.shard, parts.sequence]
  }
  return { minter, clock, next }
}

t.test('an id carries the time, the shard and the next number of the lane', async (t) => {
  const { clock, next } = setUp()
  t.same(next(0), [0, 0, 16])
  t.same(next(0), [0, 0, 17])
  t.same(next(8_191), [0, 8_191, 16], 'each shard counts for itself')
  clock.ms += 513
  t.same(next(0), [513, 0, 16])
})

t.test('a full lane waits for the next millisecond and never wraps', async (t) => {
  const { clock, next } = setUp()
  for (let i = 0; i < 8; i++) t.same(next(5), [0, 5, 16 + i])
  t.equal(next(5), 'wait')
  t.equal(next(5), 'wait')
  t.same(next(6), [0, 6, 16], 'another shard has room')
  clock.ms += 1
  t.same(next(5), [1, 5, 16])
})

t.test('the widest lane and the narrowest', async (t) => {
  const wide = setUp({ firstSequence: 0, sequenceCount: 1_024 })
  for (let i = 0; i < 1_024; i++) t.same(wide.next(1), [0, 1, i])
  t.equal(wide.next(1), 'wait')
  const narrow = setUp({ firstSequence: 1_023, sequenceCount: 1 })
  t.same(narrow.next(1), [0, 1, 1_023])
  t.equal(narrow.next(1), 'wait')
})

t.test('a clock that steps back goes on in the last millisecond used, then waits', async (t) => {
  const { clock, next } = setUp()
  clock.ms += 5_000
  t.same(next(1), [5_000, 1, 16])
  clock.ms -= 5_000
  for (let i = 1; i < 8; i++) t.same(next(1), [5_000, 1, 16 + i])
  t.equal(next(1), 'wait')
  t.same(next(2), [0, 2, 16], 'a shard that minted nothing takes the clock as it is')
  clock.ms += 5_001
  t.same(next(1), [5_001, 1, 16])
})

t.test('outside its time a rectangle refuses', async (t) => {
  const { clock, minter, next } = setUp()
  clock.ms = START_MS - 1
  t.equal(next(1), 'early')
  clock.ms = START_MS + 59_999
  t.same(next(1), [59_999, 1, 16])
  clock.ms = START_MS + 60_000
  t.equal(next(1), 'expired')
  clock.ms = START_MS + 3_600_000
  t.equal(next(2), 'expired')
  minter.extend(START_MS + 3_600_001)
  t.same(next(2), [3_600_000, 2, 16])
  minter.extend(START_MS + 1)
  t.equal(minter.rectangle.untilMs, START_MS + 3_600_001, 'an end does not move back')
})

t.test('the end of what was used', async (t) => {
  const { clock, minter } = setUp()
  t.equal(minter.usedUntilMs(), START_MS)
  minter.mint(1)
  t.equal(minter.usedUntilMs(), START_MS + 1)
  clock.ms += 10
  minter.mint(2)
  clock.ms -= 5
  minter.mint(3)
  t.equal(minter.usedUntilMs(), START_MS + 11)
})

t.test('what makes no sense is refused', async (t) => {
  for (const part of [
    { firstSequence: -1 }, { sequenceCount: 0 }, { firstSequence: 1_017 }, { firstSequence: 0.5 }, { fromMs: EPOCH_MS - 1 },
    { untilMs: START_MS }, { untilMs: LAST_MS + 2 }, { untilMs: NaN },
  ]) {
    t.throws(() => createIdMinter(rectangle(part), Date.now), RangeError, JSON.stringify(part))
  }
  const { clock, minter } = setUp()
  t.throws(() => minter.mint(SHARD_COUNT), RangeError)
  t.throws(() => minter.mint(-1), RangeError)
  clock.ms = START_MS + 0.5
  t.throws(() => minter.mint(1), RangeError)
  clock.ms = NaN
  t.throws(() => minter.mint(1), RangeError)
})

t.test('whatever the clock does: inside the rectangle, never twice, rising on each shard', async () => {
  const step = fc.record({
    moveMs: fc.oneof(fc.constantFrom(0, 0, 0, 1), fc.integer({ min: -5_000, max: 5_000 }), fc.constantFrom(3_600_000, -3_600_000)),
    shard: fc.integer({ min: 0, max: 3 }),
    count: fc.integer({ min: 1, max: 12 }),
    renewMs: fc.option(fc.integer({ min: -1_000, max: 60_000 }), { freq: 8 }),
  })
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1_016 }),
      fc.integer({ min: 1, max: 8 }),
      fc.array(step, { maxLength: 60, size: 'max' }),
      (firstSequence, sequenceCount, steps) => {
        const { clock, minter } = setUp({ firstSequence, sequenceCount })
        const seen = new Set<bigint>()
        const lastOf = new Map<number, bigint>()
        for (const { moveMs, shard, count, renewMs } of steps) {
          clock.ms += moveMs
          if (renewMs !== null) minter.extend(Math.max(START_MS + 1, clock.ms + renewMs))
          for (let i = 0; i < count; i++) {
            const id = minter.mint(shard)
            if (typeof id !== 'bigint') continue
            const parts = unpackId(id)
            const { fromMs, untilMs } = minter.rectangle
            if (parts.ms < fromMs || parts.ms >= untilMs || parts.shard !== shard) return false
            if (parts.sequence < firstSequence || parts.sequence >= firstSequence + sequenceCount) return false
            if (seen.has(id) || id <= (lastOf.get(shard) ?? -1n) || parts.ms >= minter.usedUntilMs()) return false
            seen.add(id)
            lastOf.set(shard, id)
          }
        }
        return true
      },
    ),
  )
})

t.test('ten million ids of two lanes, with overflow and clock steps: none twice', async (t) => {
  const COUNT = 10_000_000
  const clock = { ms: START_MS }
  const minters = [0, 8].map((firstSequence) => createIdMinter(rectangle({ firstSequence, untilMs: LAST_MS }), () => clock.ms))
  const ids = new BigUint64Array(COUNT)
  let minted = 0
  let refused = 0
  for (let i = 0; minted < COUNT; i++) {
    if (i % 1_000 === 999) clock.ms += 1
    if (i % 1_000_000 === 999_999) clock.ms -= 5_000
    if (i % 3_000_000 === 2_999_999) clock.ms += 3_600_000
    const id = minters[i & 1]?.mint((i >> 1) % 100)
    if (typeof id === 'bigint') ids[minted++] = id
    else refused++
    // After a step back only time helps.
    if (refused > COUNT) clock.ms += 1
  }
  ids.sort()
  let repeated = 0
  for (let i = 1; i < COUNT; i++) if (ids[i] === ids[i - 1]) repeated++
  t.equal(repeated, 0)
  t.ok(refused > 0, 'the lanes did overflow')
})
