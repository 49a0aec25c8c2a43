import type { FileReport, Failure } from './tally.ts'

/** Keys of a failed assertion's diagnostics that say where and why, in the order to print them. */
const TOLD = ['message', 'reason', 'diff', 'found', 'wanted', 'error', 'expected', 'signal', 'exitCode', 'stack']

/** Prints one line for a finished test file, and what failed in it. */
export function printReport(report: FileReport): void {
  const mark = report.failed === 0 ? 'ok  ' : 'FAIL'
  const skipped = report.skipped === 0 ? '' : `, ${report.skipped} skipped`
  const seconds = (report.timeMs / 1000).toFixed(1)
  console.log(`  ${mark} ${report.file} (${report.passed} passed, ${report.failed} failed${skipped}, ${seconds} s)`)
  for (const failure of report.failures) console.log(describe(failure))
}

function describe({ path, result }: Failure): string {
  const title = [...path, result.name].join(' > ')
  return indent(`✖ ${title}\n${indent(explain(result.diag), 2)}`, 7)
}

function explain(diagnostics: unknown): string {
  if (typeof diagnostics !== 'object' || diagnostics === null) return ''
  const known = diagnostics as Record<string, unknown>
  const lines = TOLD.filter((key) => known[key] !== undefined && known[key] !== null).map((key) => `${key}: ${show(known[key])}`)
  const at = known.at as { fileName?: string, lineNumber?: number } | undefined
  if (at?.fileName !== undefined && known.stack === undefined) lines.push(`at: ${at.fileName}:${at.lineNumber ?? 0}`)
  return lines.join('\n')
}

function show(value: unknown): string {
  const text = typeof value === 'string' ? value.trimEnd() : JSON.stringify(value)
  return text.includes('\n') ? `\n${indent(text, 2)}` : text
}

function indent(text: string, columns: number): string {
  return text.split('\n').map((line) => (line === '' ? line : ' '.repeat(columns) + line)).join('\n')
}
