import fc from 'fast-check'
import t from 'tap'
import { DELAY_STEPS_MS, pickDelayMs } from '#kernel/backoff.ts'

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

t.test('steps double from 1 s to 256 s', async (t) => {
  t.same(DELAY_STEPS_MS, [1, 2, 4, 8, 16, 32, 64, 128, 256].map((seconds) => seconds * 1_000))
})

t.test('a delay is one of the steps, and no longer than the attempt allows', async () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 1_000 }), random, (attempt, r) => {
    const delayMs = pickDelayMs(attempt, () => r)
    return DELAY_STEPS_MS.includes(delayMs) && delayMs <= 1_000 * 2 ** (attempt - 1)
  }))
})

t.test('the last four steps up to the bound can come up', async (t) => {
  t.same(Array.from({ length: 4 }, (_, i) => pickDelayMs(4, () => i / 4)), [1_000, 2_000, 4_000, 8_000])
  t.same(Array.from({ length: 4 }, (_, i) => pickDelayMs(99, () => i / 4)), [32_000, 64_000, 128_000, 256_000])
  t.equal(pickDelayMs(1, () => 0.999), 1_000)
  t.equal(pickDelayMs(99, () => 0.999), 256_000)
})
