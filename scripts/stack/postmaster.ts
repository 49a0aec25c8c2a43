import { readFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { runCommand } from './run-command.ts'

/** A server that runs on a data directory. */
export interface Postmaster {
  pid: number
  port: number
}

/** The lines of postmaster.pid that we read (see "miscadmin.h" of PostgreSQL, LOCK_FILE_LINE_*), from 0. */
const PID_LINE = 0
const PORT_LINE = 3

/**
 * The server that runs on `data`, if one does: our own of a moment ago, or one whose parent was killed. A file left by
 * a server that was killed is removed when its process number now belongs to some other program, which PostgreSQL
 * itself would take for a running server.
 */
export async function findPostmaster(data: string): Promise<Postmaster | undefined> {
  const file = join(data, 'postmaster.pid')
  const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n')
  const pid = Number(lines[PID_LINE])
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return undefined
  if (await isPostgres(pid)) return { pid, port: Number(lines[PORT_LINE]) }
  await rm(file, { force: true })
  return undefined
}

/** True if a process with that number exists, whoever owns it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** The command line of a process, its words separated by spaces; empty when there is no such process. */
export async function commandLineOf(pid: number): Promise<string> {
  if (process.platform === 'linux') {
    const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    return words.replaceAll('\0', ' ').trim()
  }
  return (await runCommand('ps', ['-o', 'args=', '-p', String(pid)], {}).catch(() => '')).trim()
}

async function isPostgres(pid: number): Promise<boolean> {
  const [program = ''] = (await commandLineOf(pid)).split(' ')
  return basename(program).startsWith('postgres')
}
