import t from 'tap'
import { manualClock, systemClock } from '#kernel/clock.ts'

t.test('a manual clock moves when told; a step leaves monotonic time alone', async (t) => {
  const clock = manualClock(1_000)
  clock.advance(5)
  t.same([clock.nowMs(), clock.monotonicMs()], [1_005, 5])
  clock.step(-500)
  t.same([clock.nowMs(), clock.monotonicMs()], [505, 5])
  t.throws(() => {
    clock.advance(-1)
  }, RangeError)
})

t.test('the system clock reads Unix milliseconds', async (t) => {
  t.ok(systemClock.nowMs() > Date.UTC(2026, 0, 1))
  const before = systemClock.monotonicMs()
  t.ok(systemClock.monotonicMs() >= before)
})
