import t from 'tap'
import { createTapReader, sum, type FileReport } from '../../../scripts/testing/tally.ts'

/** What tap prints for three files: one with a failing and a skipped subtest, one that crashes, one that is well. */
const RUN = `TAP version 14
# Subtest: test/unit/a.test.ts
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
    1..3
not ok 1 - test/unit/a.test.ts # time=12.5ms
# Subtest: test/unit/crash.test.ts
    1..0 # no tests found
not ok 2 - test/unit/crash.test.ts # time=5ms
  ---
  exitCode: 3
  ...
# Subtest: test/unit/plan.test.ts
    # Subtest: short
        ok 1 - only one
        1..2
    not ok 1 - short # time=1ms
    1..1
not ok 3 - test/unit/plan.test.ts # time=5ms
# Subtest: test/unit/well.test.ts
    ok 1 - fine
    1..1
ok 4 - test/unit/well.test.ts # time=1ms
1..4
`

function read(text: string): FileReport[] {
  const reports: FileReport[] = []
  createTapReader((report) => reports.push(report)).end(text)
  return reports
}

t.test('counts assertions, not the subtests around them', (t) => {
  const [a, crash, plan, well] = read(RUN)
  t.match(a, { file: 'test/unit/a.test.ts', passed: 2, failed: 1, skipped: 1, timeMs: 12.5 })
  t.match(a?.failures, [{ path: ['two'], result: { name: 'broken' } }])
  t.match(crash, { passed: 0, failed: 1, failures: [{ path: [], result: { name: 'test/unit/crash.test.ts' } }] })
  t.match(plan, { passed: 1, failed: 1, failures: [{ path: [], result: { name: 'short' } }] })
  t.match(well, { passed: 1, failed: 0, failures: [] })
  t.end()
})

t.test('adds up a run', (t) => {
  t.same(sum(read(RUN)), { passed: 4, failed: 3, skipped: 1 })
  t.same(sum([]), { passed: 0, failed: 0, skipped: 0 })
  t.end()
})
