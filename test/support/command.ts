import { spawn } from 'node:child_process'
import type { Test } from 'tap'
import { commandLineOf } from '../../scripts/stack/postmaster.ts'
import { eventually } from './eventually.ts'
import type { Exit } from './processes.ts'
import { onTeardown } from './teardown.ts'

/** A command of a user's, run as in a terminal of its own. */
export interface RunningCommand {
  pid: number
  /** Everything it has printed so far. */
  output: () => string
  /** Resolves with what the pattern captured (or matched) once it has been printed; rejects if the command ends first. */
  printed: (pattern: RegExp, deadlineMs?: number) => Promise<string>
  ended: Promise<Exit>
  /** Ctrl-C: SIGINT to the whole process group, as a terminal sends it. */
  interrupt: () => void
}

export interface CommandOptions {
  cwd: string
  env?: NodeJS.ProcessEnv
}

/** Starts a command in a process group of its own; what is left of the group at teardown is killed. */
export function startCommand(t: Test, file: string, args: string[], { cwd, env = process.env }: CommandOptions): RunningCommand {
  const child = spawn(file, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (more: string) => (text += more))
  let exit: Exit | undefined
  const ended = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => {
      exit = { code, signal }
      resolve(exit)
    })
  })
  const pid = child.pid ?? 0
  const signalGroup = (signal: NodeJS.Signals): void => {
    try {
      process.kill(-pid, signal)
    } catch {
      // The group is gone.
    }
  }
  onTeardown(t, async () => {
    signalGroup('SIGKILL')
    await ended
  })
  const printed: RunningCommand['printed'] = async (pattern, deadlineMs) => {
    return eventually(`${file} prints ${pattern.source}`, async () => {
      const found = pattern.exec(text)
      if (found === null && exit !== undefined) throw new Error(`${file} ended with ${exit.code ?? exit.signal}:\n${text}`)
      return Promise.resolve(found?.[1] ?? found?.[0])
    }, deadlineMs)
  }
  return { pid, output: () => text, printed, ended, interrupt: () => signalGroup('SIGINT') }
}

/** True for a process that runs; one that only waits to be reaped does not. */
export async function isRunning(pid: number): Promise<boolean> {
  return (await commandLineOf(pid)) !== ''
}

/** Resolves when none of the processes runs any more. */
export async function allGone(pids: readonly number[]): Promise<void> {
  await eventually(`processes ${pids.join(', ')} are gone`, async () => {
    const running = await Promise.all(pids.map(isRunning))
    return running.includes(true) ? undefined : true
  })
}
