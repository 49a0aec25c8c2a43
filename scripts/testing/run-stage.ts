import { TAP } from './build-tap.ts'
import { startGroup } from './child.ts'
import type { GroupChild } from './child.ts'
import { printReport } from './print-report.ts'
import { createTapReader, sum } from './tally.ts'
import type { FileReport, Tally } from './tally.ts'
import { STAGE_LIMITS } from './test-files.ts'
import type { Stage } from './test-files.ts'

/**
 * Runs the given files of one stage with tap, printing each as it ends. Fails, beside what failed, when tap itself ends
 * badly though every file it told of was well, and when a file was never told of.
 */
export async function runStage(stage: Stage, files: string[], env: NodeJS.ProcessEnv, onStart: (child: GroupChild) => void): Promise<Tally> {
  const { jobs, fileTimeoutSeconds } = STAGE_LIMITS[stage]
  console.log(`\n${stage} (${files.length} files)`)
  const args = [TAP, 'run', '--reporter=tap', `--jobs=${jobs}`, `--timeout=${fileTimeoutSeconds}`, ...files]
  const tap = startGroup(process.execPath, args, env, 'inherit')
  onStart(tap)
  const reports: FileReport[] = []
  const reader = createTapReader((report) => {
    reports.push(report)
    printReport(report)
  })
  tap.child.stdout?.pipe(reader)
  const code = await tap.ended
  const tally = sum(reports)
  if (reports.length < files.length) {
    console.log(`  FAIL tap told of ${reports.length} of ${files.length} files (exit code ${code})`)
    tally.failed += 1
  } else if (code !== 0 && tally.failed === 0) {
    console.log(`  FAIL tap ended with ${code}`)
    tally.failed += 1
  }
  return tally
}
