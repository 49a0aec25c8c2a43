import type { GroupChild } from './child.ts'
import { printReport } from './print-report.ts'
import { runFile } from './run-file.ts'
import { sum } from './tally.ts'
import type { FileReport, Tally } from './tally.ts'
import { FILE_SECONDS_MAX, inOrder, isAlone, stageOf } from './test-files.ts'

/**
 * Files at the same time. One more than the cores of a small machine, as many wait for lives and limits to end; more gain
 * nothing there, and everything starts slower.
 */
const FILES_AT_ONCE = 3

export interface RunFilesOptions {
  readonly env: NodeJS.ProcessEnv
  readonly onStart: (child: GroupChild) => void
  /** True once no further file is to begin. */
  readonly isStopping: () => boolean
}

/** Runs test files, several at a time; then those that measure, one by one. Prints each as it ends. */
export async function runFiles(files: readonly string[], options: RunFilesOptions): Promise<Tally> {
  const reports: FileReport[] = []
  const lane = async (queue: string[]): Promise<void> => {
    for (let file = queue.shift(); file !== undefined && !options.isStopping(); file = queue.shift()) {
      const report = await runFile(file, { ...options, seconds: FILE_SECONDS_MAX[stageOf(file)] })
      printReport(report)
      reports.push(report)
    }
  }
  const together = inOrder(files.filter((file) => !isAlone(file)))
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, () => lane(together)))
  await lane(files.filter(isAlone))
  return sum(reports)
}
