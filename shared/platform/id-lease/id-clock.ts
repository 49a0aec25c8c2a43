import type { Clock } from '#kernel/clock.ts'

/** How far the ledger's clock may step back and we still keep to our own: ids go on rising, a little early. */
const SLACK_MS = 10_000

/** A holder's clock: the ledger's time as last told, plus monotonic time since. The wall clock plays no part. */
export interface IdClock {
  /** Unix milliseconds, whole; nothing is known before the first `follow`. */
  nowMs(): number
  /**
   * Takes note of the ledger's time in a reply that has just arrived, if it is later than this clock's.
   * @returns false if the ledger's clock went back by more than the slack: this clock is then wrong
   */
  follow(ledgerNowMs: number): boolean
  /** Sets the clock to the ledger's time, even back. */
  set(ledgerNowMs: number): void
}

/**
 * A reply tells of a moment a little ago, so the clock runs late by the reply's travelling time, never early; the
 * reply that travelled fastest is the truest, which is why the clock follows later times only.
 */
export function createIdClock(clock: Pick<Clock, 'monotonicMs'>): IdClock {
  let offsetMs = -Infinity
  return {
    nowMs: () => Math.floor(clock.monotonicMs() + offsetMs),
    follow(ledgerNowMs) {
      const heardMs = ledgerNowMs - clock.monotonicMs()
      if (heardMs < offsetMs - SLACK_MS) return false
      offsetMs = Math.max(offsetMs, heardMs)
      return true
    },
    set(ledgerNowMs) {
      offsetMs = ledgerNowMs - clock.monotonicMs()
    },
  }
}
