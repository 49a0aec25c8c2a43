import { readFile, rm, writeFile } from 'node:fs/promises'
import { commandLineOf, isAlive } from './postmaster.ts'

/** Who runs this checkout's stack, and what it started: kept so that the next start finds what a kill -9 left. */
export interface RunRecord {
  pid: number
  children: { pid: number; command: string }[]
}

const LEAVE_DEADLINE_MS = 10_000
const POLL_MS = 50

/**
 * Claims the checkout's stack for this process in `file`, after ending processes that a killed predecessor left behind.
 * Gives true if there was such a predecessor. Throws when another one is running. Call `recordRun` with the children, and `forgetRun` at the end.
 */
export async function claimRun(file: string): Promise<boolean> {
  const record = await readRecord(file)
  if (record !== undefined) {
    const isRunning = record.pid !== process.pid && isAlive(record.pid) && (await commandLineOf(record.pid)).includes('scripts/dev.ts')
    if (isRunning) throw new Error(`Monogram already runs here (process ${record.pid}): stop that one first.`)
    await Promise.all(record.children.map(({ pid, command }) => endLeftover(pid, command)))
  }
  await recordRun(file, [])
  return record !== undefined
}

export async function recordRun(file: string, children: RunRecord['children']): Promise<void> {
  await writeFile(file, JSON.stringify({ pid: process.pid, children } satisfies RunRecord))
}

export async function forgetRun(file: string): Promise<void> {
  await rm(file, { force: true })
}

async function readRecord(file: string): Promise<RunRecord | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as RunRecord)
}

/** A process number alone may be somebody else's by now: only one that still runs our command line is ended. */
async function endLeftover(pid: number, command: string): Promise<void> {
  const isOurs = async (): Promise<boolean> => isAlive(pid) && (await commandLineOf(pid)) === command
  if (!(await isOurs())) return
  process.kill(pid, 'SIGTERM')
  const deadline = performance.now() + LEAVE_DEADLINE_MS
  while (await isOurs()) {
    if (performance.now() > deadline) process.kill(pid, 'SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
