import { Parser } from 'tap-parser'
import type { FinalResults, Result } from 'tap-parser'

/** How a run went: assertions, and things that failed without one (a crash, a time-out, a broken plan). */
export interface Tally {
  passed: number
  failed: number
  skipped: number
}

/** One assertion that failed, and the subtests it stands in, outermost first. */
export interface Failure {
  path: string[]
  result: Pick<Result, 'name' | 'diag'>
}

/** One finished test file. */
export interface FileReport extends Tally {
  file: string
  timeMs: number
  failures: Failure[]
}

/** Reads what one test file prints. */
export interface TapReader {
  read(text: string): void
  /** How the file went, once it has printed all; `why` says how its process ended, if that was not well. */
  end(timeMs: number, why?: string): FileReport
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
 * A reader for the TAP of one file. Only leaves are counted, so a subtest does not count again beside its assertions; one
 * that failed though all its assertions passed counts as one failure, and so does a file that ended badly or without any.
 */
export function createTapReader(file: string): TapReader {
  const parser = new Parser()
  const report: FileReport = { file, passed: 0, failed: 0, skipped: 0, timeMs: 0, failures: [] }
  let results: FinalResults | undefined
  countInto(report, parser, [])
  parser.on('complete', (final: FinalResults) => (results = final))
  return {
    read(text) {
      parser.write(text)
    },
    end(timeMs, why) {
      parser.end()
      const isEmpty = report.passed + report.failed + report.skipped === 0
      const complaint = why ?? (isEmpty ? 'no test ran' : results?.ok === true ? undefined : 'what it printed is broken off')
      if (complaint !== undefined && report.failed === 0) fail(report, [], { name: complaint, diag: undefined })
      return { ...report, timeMs }
    },
  }
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

function fail(report: FileReport, path: string[], result: Failure['result']): void {
  report.failed += 1
  report.failures.push({ path, result })
}
