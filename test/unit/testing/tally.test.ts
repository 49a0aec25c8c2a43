import t from 'tap'
import { createTapReader, sum, type FileReport } from '../../../scripts/testing/tally.ts'

/** What tap prints for a file with nested, failing, skipped and short subtests. */
const PRINTED = `TAP version 14
# Subtest: one
    ok 1 - first
    # Subtest: inner
        ok 1 - deep
        1..1
    ok 2 - inner # time=1ms
    1..2
ok 1 - one # time=2ms
# Subtest: two
    not ok 1 - broken
      ---
      diff: |
        --- expected
        +++ actual
      ...
    1..1
not ok 2 - two # time=1ms
ok 3 - three # SKIP not here
# Subtest: short
    ok 1 - only one
    1..2
not ok 4 - short # time=1ms
1..4
`

function read(text: string, why?: string): FileReport {
  const reader = createTapReader('a.test.ts')
  // As it comes out of a pipe.
  for (let at = 0; at < text.length; at += 100) reader.read(text.slice(at, at + 100))
  return reader.end(12.5, why)
}

t.test('counts assertions, not the subtests around them', (t) => {
  const report = read(PRINTED, 'it ended with 1')
  t.match(report, { file: 'a.test.ts', passed: 3, failed: 2, skipped: 1, timeMs: 12.5 })
  t.match(report.failures, [{ path: ['two'], result: { name: 'broken' } }, { path: [], result: { name: 'short' } }])
  t.match(read('TAP version 14\nok 1 - fine\n1..1\n'), { passed: 1, failed: 0, failures: [] })
  t.end()
})

t.test('a file that ends badly, or before its end, or without a test, has failed', (t) => {
  const fine = 'TAP version 14\nok 1 - fine\n'
  t.match(read(`${fine}1..1\n`, 'it ended with 3'), { passed: 1, failed: 1, failures: [{ result: { name: 'it ended with 3' } }] })
  t.match(read(fine), { passed: 1, failed: 1, failures: [{ result: { name: 'what it printed is broken off' } }] })
  for (const text of ['', 'TAP version 14\n1..0 # no tests found\n']) {
    t.match(read(text), { passed: 0, failed: 1, failures: [{ result: { name: 'no test ran' } }] })
  }
  t.end()
})

t.test('adds up a run', (t) => {
  t.same(sum([read(PRINTED), read('TAP version 14\nok 1 - fine\n1..1\n')]), { passed: 4, failed: 2, skipped: 1 })
  t.same(sum([]), { passed: 0, failed: 0, skipped: 0 })
  t.end()
})
