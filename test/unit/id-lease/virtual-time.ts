import { setImmediate as turn } from 'node:timers/promises'
import { manualClock } from '#kernel/clock.ts'
import type { ManualClock } from '#kernel/clock.ts'
import type { Sleep } from '#platform/id-lease/sleep.ts'

/** Event-loop turns after which nothing that was ready is left to run. */
const SETTLE_TURNS = 3

export interface VirtualTime {
  readonly clock: ManualClock
  readonly sleep: Sleep
  /** Lets time pass, waking each sleeper at its time, and everything that follows from it run. */
  pass(ms: number): Promise<void>
}

/** Time that passes only when told. */
export function virtualTime(startMs: number): VirtualTime {
  const clock = manualClock(startMs)
  let sleepers: { atMs: number; wake: () => void }[] = []

  const settle = async (): Promise<void> => {
    for (let i = 0; i < SETTLE_TURNS; i++) await turn()
  }

  return {
    clock,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) {
          resolve()
          return
        }
        const sleeper = { atMs: clock.monotonicMs() + ms, wake: resolve }
        sleepers.push(sleeper)
        signal?.addEventListener('abort', () => {
          sleepers = sleepers.filter((other) => other !== sleeper)
          resolve()
        })
      }),
    async pass(ms) {
      const endMs = clock.monotonicMs() + ms
      await settle()
      for (;;) {
        const next = sleepers.toSorted((a, b) => a.atMs - b.atMs)[0]
        if (next === undefined || next.atMs > endMs) break
        sleepers = sleepers.filter((other) => other !== next)
        clock.advance(Math.max(0, next.atMs - clock.monotonicMs()))
        next.wake()
        await settle()
      }
      clock.advance(endMs - clock.monotonicMs())
    },
  }
}
