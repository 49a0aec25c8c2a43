import { readdir, readFile } from 'node:fs/promises'

/** Of Linux, on every machine that we have seen: user ticks in a second. */
const TICKS_PER_SECOND = 100

/** Seconds of processor time that a PostgreSQL has used so far: its first process and all that this one started. Linux. */
export async function serverCpuSeconds(postmaster: number): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const ticks = await Promise.all(pids.map((pid) => ticksOf(pid, postmaster)))
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS_PER_SECOND
}

/** proc(5): 4 is the parent; 14 to 17 the time of the process and of its children that have ended. */
async function ticksOf(pid: number, postmaster: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  if (pid !== postmaster && Number(fields[1]) !== postmaster) return 0
  const own = Number(fields[11]) + Number(fields[12])
  return pid === postmaster ? own + Number(fields[13]) + Number(fields[14]) : own
}
