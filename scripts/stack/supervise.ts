import { spawn } from 'node:child_process'
import { createConcurrently, Logger, LogOutput } from 'concurrently'
import type { CloseEvent } from 'concurrently'

/** One process to run: a Procfile's command line under a name such as web.2. */
export interface ProcessSpec {
  name: string
  command: string
  env: Record<string, string>
}

export interface Supervised {
  /** The process numbers, in the order of the specs. */
  pids: number[]
  /** Resolves with the first process that ends, whoever ended it. */
  firstEnd: Promise<{ name: string; exitCode: number | string }>
  /**
   * Sends SIGTERM to every process and waits until all are gone; those that are not in time get SIGKILL. Gives the
   * names of these.
   */
  stop: (deadlineMs: number) => Promise<string[]>
}

/**
 * Runs all processes at once, their output line by line behind their names, coloured on a terminal. Each leads a
 * process group of its own, so that a Ctrl-C in the terminal reaches only us, who then stop them in order.
 */
export function supervise(specs: ProcessSpec[]): Supervised {
  const logger = new Logger({ prefixFormat: 'name' })
  logger.setPrefixLength(Math.max(...specs.map(({ name }) => name.length)))
  const { commands, result } = createConcurrently(specs, {
    logger,
    controllers: [new LogOutput({ logger })],
    outputStream: process.stdout,
    prefixColors: 'auto',
    // `exec`: the process takes the shell's place, so it gets our signal itself and its exit code is what we see.
    spawn: (command, options) => spawn('/bin/sh', ['-c', `exec ${command}`], { ...options, detached: true }),
    kill: (pid, signal) => process.kill(pid, signal),
  })
  const ended = result.then(() => undefined, () => undefined)
  const firstEnd = new Promise<{ name: string; exitCode: number | string }>((resolve) => {
    for (const command of commands) {
      command.close.subscribe(({ exitCode }: CloseEvent) => resolve({ name: command.name, exitCode }))
    }
  })
  const stop = async (deadlineMs: number): Promise<string[]> => {
    for (const command of commands) command.kill('SIGTERM')
    let late: string[] = []
    const timer = setTimeout(() => {
      const left = commands.filter(({ state }) => state === 'started')
      late = left.map(({ name }) => name)
      for (const command of left) command.kill('SIGKILL')
    }, deadlineMs)
    await ended
    clearTimeout(timer)
    return late
  }
  return { pids: commands.map(({ pid }) => pid ?? 0), firstEnd, stop }
}
