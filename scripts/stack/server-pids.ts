import { readFile, rm, writeFile } from 'node:fs/promises'
import { commandLineOf, isAlive } from './postmaster.ts'

/** A process of a server, kept in a file so that the next start finds it when we are killed before it. */
export interface ServerPid {
  pid: number
  /** What its command line contains and no other program's does: a process number may be somebody else's by then. */
  mark: string
}

const POLL_MS = 50

/** Keeps the processes in `file`, in place of those it had. */
export async function keepServerPids(file: string, pids: readonly ServerPid[]): Promise<void> {
  await writeFile(file, JSON.stringify(pids))
}

/** The processes that `file` keeps; none when there is no such file. */
export async function readServerPids(file: string): Promise<ServerPid[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  // Empty: whoever wrote it was killed in the middle.
  return text === '' ? [] : (JSON.parse(text) as ServerPid[])
}

/** Tells the processes of `file` that still run to stop, the first one first, kills those that take longer, and removes it. */
export async function endServerPids(file: string, deadlineMs: number): Promise<void> {
  for (const { pid, mark } of await readServerPids(file)) {
    const isOurs = async (): Promise<boolean> => isAlive(pid) && (await commandLineOf(pid)).includes(mark)
    if (!(await isOurs())) continue
    process.kill(pid, 'SIGTERM')
    const deadline = performance.now() + deadlineMs
    while (await isOurs()) {
      if (performance.now() > deadline) process.kill(pid, 'SIGKILL')
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }
  await rm(file, { force: true })
}
