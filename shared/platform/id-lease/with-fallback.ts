import type { Clock } from '#kernel/clock.ts'
import type { LeaseSource } from './lease-source.ts'

/** How long after a failure the first source is left alone: a renewal must not wait for it every time. */
const PAUSE_MS = 10_000

/**
 * Asks the first source, and the second when it fails. Safe in any mixture as long as both lead to the same ledger: a
 * grant whose answer was lost only expires unused.
 */
export function withFallback(first: LeaseSource, second: LeaseSource, clock: Pick<Clock, 'monotonicMs'>): LeaseSource {
  let pausedUntilMs = -Infinity

  async function ask<T>(call: (source: LeaseSource) => Promise<T>): Promise<T> {
    if (clock.monotonicMs() < pausedUntilMs) return call(second)
    try {
      return await call(first)
    } catch {
      pausedUntilMs = clock.monotonicMs() + PAUSE_MS
      return call(second)
    }
  }

  return {
    grant: (request) => ask((source) => source.grant(request)),
    renew: (leaseId) => ask((source) => source.renew(leaseId)),
    release: (leaseId, usedUntilMs) => ask((source) => source.release(leaseId, usedUntilMs)),
  }
}
