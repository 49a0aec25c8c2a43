import { startGroup } from './child.ts'
import type { GroupChild } from './child.ts'
import { createTapReader } from './tally.ts'
import type { FileReport } from './tally.ts'

/** How long tap has to say what a file was waiting for when its time was up. */
const LAST_WORDS_MS = 20_000

export interface RunFileOptions {
  readonly env: NodeJS.ProcessEnv
  /** The longest that it may take. */
  readonly seconds: number
  readonly onStart: (child: GroupChild) => void
}

/**
 * Runs one test file and resolves with how it went. Not by tap's own runner, which has every Node program that a test starts
 * load through hooks of its own, for a coverage that nobody looks at: half as much again of what such a start costs.
 */
export async function runFile(file: string, { env, seconds, onStart }: RunFileOptions): Promise<FileReport> {
  const beganMs = performance.now()
  const test = startGroup(process.execPath, [file], { ...env, TAP: '1', TAP_TIMEOUT: String(seconds) }, 'inherit')
  onStart(test)
  const reader = createTapReader(file)
  test.child.stdout?.setEncoding('utf8').on('data', (text: string) => reader.read(text))
  const state = { isLate: false }
  const limit = setTimeout(() => {
    state.isLate = true
    void test.stop()
  }, seconds * 1_000 + LAST_WORDS_MS)
  const code = await test.ended
  clearTimeout(limit)
  // A file that tap cuts off leaves behind what it started.
  if (code !== 0) await test.stop()
  const why = state.isLate ? `not at its end after ${seconds} s` : code === 0 ? undefined : `it ended with ${code}`
  return reader.end(performance.now() - beganMs, why)
}
