import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'

/** What a child and everything it started may take to leave once told to stop. */
const GRACE_MS = 10_000

/**
 * A child that leads a process group of its own: a Ctrl-C in the terminal reaches us first, and what the child started
 * can be stopped with it.
 */
export interface GroupChild {
  child: ChildProcess
  /** Resolves with the exit code (128 when a signal ended it) once its output is closed. */
  ended: Promise<number>
  /** Asks the whole group to stop, and after a grace ends what is left of it. */
  stop: () => Promise<void>
}

/** Starts a program in a process group of its own; its standard output is piped, errors too or to where ours go. */
export function startGroup(file: string, args: string[], env: NodeJS.ProcessEnv, errors: 'inherit' | 'pipe'): GroupChild {
  const child = spawn(file, args, { env, detached: true, stdio: ['ignore', 'pipe', errors] })
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 128))
  })
  return { child, ended, stop: () => stopGroup(child, ended) }
}

async function stopGroup(child: ChildProcess, ended: Promise<number>): Promise<void> {
  if (child.pid === undefined) return
  signalGroup(child.pid, 'SIGTERM')
  const impatience = new AbortController()
  const grace = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, GRACE_MS)
    impatience.signal.addEventListener('abort', () => clearTimeout(timer))
  })
  await Promise.race([ended, grace])
  impatience.abort()
  signalGroup(child.pid, 'SIGKILL')
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal)
  } catch {
    // Nobody of the group is left.
  }
}
