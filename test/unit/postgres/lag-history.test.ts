import t from 'tap'
import { createLagHistory } from '#platform/postgres/lag-history.ts'

t.test('lag is the time since the log ended no further than what is replayed', (t) => {
  const lag = createLagHistory()
  t.equal(lag.lagMs(5n), undefined)
  lag.note(10n, 0)
  lag.note(20n, 1_000)
  lag.note(30n, 2_000)
  t.equal(lag.lagMs(30n), 0)
  t.equal(lag.lagMs(29n), 1_000)
  t.equal(lag.lagMs(10n), 2_000)
  t.equal(lag.lagMs(9n), undefined, 'further than anybody remembers')
  t.end()
})

t.test('while nothing is written, who has everything is not late', (t) => {
  const lag = createLagHistory()
  lag.note(10n, 0)
  for (let ms = 1_000; ms <= 3_600_000; ms += 1_000) lag.note(10n, ms)
  t.equal(lag.lagMs(10n), 0)
  lag.note(20n, 3_601_000)
  t.equal(lag.lagMs(10n), 1_000)
  t.end()
})

t.test('what is remembered is bounded', (t) => {
  const lag = createLagHistory()
  for (let second = 0; second <= 600; second++) lag.note(BigInt(second), second * 1_000)
  t.equal(lag.lagMs(0n), undefined)
  t.equal(lag.lagMs(1n), 599_000)
  t.end()
})
