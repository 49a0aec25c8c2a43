import { Parser } from 'tap-parser'
import type { Result } from 'tap-parser'

/** How a run went: assertions, and things that failed without one (a crash, a time-out, a broken plan). */
export interface Tally {
  passed: number
  failed: number
  skipped: number
}

/** One assertion that failed, and the subtests it stands in, outermost first. */
export interface Failure {
  path: string[]
  result: Result
}

/** One finished test file. */
export interface FileReport extends Tally {
  file: string
  timeMs: number
  failures: Failure[]
}

export function sum(tallies: readonly Tally[]): Tally {
  const total = { passed: 0, failed: 0, skipped: 0 }
  for (const { passed, failed, skipped } of tallies) {
    total.passed += passed
    total.failed += failed
    total.skipped += skipped
  }
  return total
}

/**
 * A parser for the TAP of a whole run, one subtest per file: calls `onFile` as each file ends. Only leaves are counted,
 * so a subtest does not count again beside its assertions; one that failed though all its assertions passed counts as
 * one failure.
 */
export function createTapReader(onFile: (report: FileReport) => void): Parser {
  const root = new Parser()
  let report: FileReport | undefined
  root.on('child', (child: Parser) => {
    report = { file: child.name, passed: 0, failed: 0, skipped: 0, timeMs: 0, failures: [] }
    countInto(report, child, [])
  })
  root.on('assert', (result: Result) => {
    const ended = report ?? { file: result.name, passed: 0, failed: 0, skipped: 0, timeMs: 0, failures: [] }
    if (!result.ok && ended.failed === 0) fail(ended, [], result)
    onFile({ ...ended, file: result.name, timeMs: result.time ?? 0 })
    report = undefined
  })
  return root
}

function countInto(report: FileReport, parser: Parser, path: string[]): void {
  let failedBefore = 0
  parser.on('child', (child: Parser) => {
    failedBefore = report.failed
    countInto(report, child, [...path, child.name])
  })
  parser.on('assert', (result: Result) => {
    if (result.closingTestPoint) {
      if (!result.ok && report.failed === failedBefore) fail(report, path, result)
    } else if (result.skip !== false || result.todo !== false) {
      report.skipped += 1
    } else if (result.ok) {
      report.passed += 1
    } else {
      fail(report, path, result)
    }
  })
}

function fail(report: FileReport, path: string[], result: Result): void {
  report.failed += 1
  report.failures.push({ path, result })
}
