/** Time as the code sees it. Handed in, so that tests can stop it, move it and step it. */
export interface Clock {
  /** Wall clock, Unix milliseconds (whole). May step either way. */
  nowMs(): number
  /** Milliseconds (with a fraction) since an arbitrary moment. Never steps. */
  monotonicMs(): number
}

/** A clock for tests. */
export interface ManualClock extends Clock {
  /** Lets `ms` pass on both clocks. */
  advance(ms: number): void
  /** Sets the wall clock off by `ms` (negative: back); no time passes. */
  step(ms: number): void
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
}

/** A clock that stands at `startMs` (Unix milliseconds) and moves only when told; monotonic time starts at 0. */
export function manualClock(startMs: number): ManualClock {
  let wallMs = startMs
  let elapsedMs = 0
  return {
    nowMs: () => wallMs,
    monotonicMs: () => elapsedMs,
    advance(ms) {
      if (ms < 0) throw new RangeError('time does not pass backwards: use step()')
      wallMs += ms
      elapsedMs += ms
    },
    step(ms) {
      wallMs += ms
    },
  }
}
