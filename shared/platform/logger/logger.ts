import { pino, type Logger } from 'pino'
import { currentTrace } from './trace.ts'

export type { Logger } from 'pino'

/** Keys whose values never reach a log line, at the top of an object or one level down. */
const SECRET_KEYS = ['password', 'current', 'token', 'authorization', 'cookie', 'secretKey', 'email']
const REDACTED_PATHS = SECRET_KEYS.flatMap((key) => [key, `*.${key}`, `*.headers.${key}`])

/**
 * The process's logger: one JSON line an event on standard output, written asynchronously,
 * with the request's or job's ids from the current trace.
 */
export function createLogger(options: { process: string; level: string }): Logger {
  return pino(
    {
      level: options.level,
      base: { process: options.process, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
      mixin() {
        const { requestId, jobId } = currentTrace()
        return { ...(requestId !== null && { requestId }), ...(jobId !== null && { jobId }) }
      },
    },
    pino.destination({ dest: 1, sync: false }),
  )
}
