import { symbols } from 'pino'
import type { Logger } from './logger.ts'

/** Writes one line of a kind that a process writes for all that it does. */
export interface LineLog {
  readonly isEnabled: boolean
  /** @param fields JSON members without the braces: the line is not parsed, checked or redacted */
  write(fields: string): void
}

/** What pino keeps in a logger under symbols that it gives out. */
interface PinoInside {
  readonly stream: { write(text: string): void }
  /** What every line of the logger says, as JSON members with a comma before each. */
  readonly bindings: string
}

/**
 * A log of lines of level `info` with one message, for the one line that every request has: pino's way to it was a
 * sixth of what a photo took. The lines of one turn of the event loop are handed over together, in pino's own form and
 * to pino's own destination, which writes them asynchronously.
 */
export function lineLog(log: Logger, message: string): LineLog {
  const { stream, bindings } = insideOf(log)
  const end = `,"msg":${JSON.stringify(message)}}\n`
  const isEnabled = log.isLevelEnabled('info')
  let lines = ''
  let timeMs = 0
  let time = ''

  function flush(): void {
    const written = lines
    lines = ''
    stream.write(written)
  }

  return {
    isEnabled,
    write(fields) {
      if (!isEnabled) return
      if (lines === '') setImmediate(flush)
      const nowMs = Date.now()
      if (nowMs !== timeMs) {
        timeMs = nowMs
        time = new Date(nowMs).toISOString()
      }
      lines += `{"level":"info","time":"${time}"${bindings},${fields}${end}`
    },
  }
}

function insideOf(log: Logger): PinoInside {
  const { streamSym, chindingsSym } = symbols
  const inside = log as unknown as Record<symbol, unknown>
  return { stream: inside[streamSym] as PinoInside['stream'], bindings: inside[chindingsSym] as string }
}
