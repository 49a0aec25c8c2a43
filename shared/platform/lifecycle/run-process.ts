import { ConfigError } from '../config/environment.ts'
import type { Logger } from '../logger/logger.ts'

/** Hosts send SIGKILL 30 s after SIGTERM; we are gone before. */
const DRAIN_MS_MAX = 25_000

/** What `start` hands to the process: where to report, and what to undo, last first. */
export interface RunningProcess {
  readonly log: Logger
  /** Called once on SIGTERM, SIGINT or a fatal error; bounded by 25 s. */
  close(): Promise<void>
}

/**
 * Runs one process of the Procfile: boots it, and on SIGTERM or SIGINT closes it in order within 25 s
 * and exits 0. Further signals are ignored, since a terminal and a supervisor often both send one.
 * A boot error or an uncaught error exits 1 with its reason on standard error or in the log.
 */
export function runProcess(start: () => Promise<RunningProcess>): void {
  let running: RunningProcess | undefined
  let leaving = false

  const leave = (code: number): void => {
    if (leaving) return
    leaving = true
    const timer = setTimeout(() => {
      running?.log.error({ drainMs: DRAIN_MS_MAX }, 'did not drain in time; leaving')
      exit(1)
    }, DRAIN_MS_MAX)
    const closed = booted.then(() => running?.close())
    closed.then(
      () => {
        clearTimeout(timer)
        running?.log.info('closed')
        exit(code)
      },
      (error: unknown) => {
        running?.log.error({ err: error }, 'failed while closing')
        exit(1)
      },
    )
  }

  const exit = (code: number): void => {
    if (running === undefined) process.exit(code)
    running.log.flush(() => process.exit(code))
  }

  const onFatal = (error: unknown): void => {
    if (running === undefined) process.stderr.write(`${describeBootError(error)}\n`)
    else running.log.fatal({ err: error }, 'uncaught error; leaving')
    leave(1)
  }

  process.on('SIGTERM', () => leave(0))
  process.on('SIGINT', () => leave(0))
  process.on('uncaughtException', onFatal)
  process.on('unhandledRejection', onFatal)

  const booted = start().then(
    (started) => {
      running = started
    },
    (error: unknown) => {
      process.stderr.write(`${describeBootError(error)}\n`)
      process.exit(1)
    },
  )
}

function describeBootError(error: unknown): string {
  if (error instanceof ConfigError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
