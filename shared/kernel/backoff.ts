/** The waits between tries, in milliseconds: 1, 2, 4 … 256 s. One wait queue exists for each. */
export const DELAY_STEPS_MS: readonly number[] = [
  1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000,
]

/**
 * The wait before the next try: exponential backoff with full jitter, on fixed steps. The bound doubles with each
 * attempt, and the wait is one of the steps up to it, picked at random, so that jobs that failed together come back
 * apart ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
 * @param attempt how many tries have failed, from 1.
 * @param random gives a number in [0, 1), such as `Math.random`.
 * @returns milliseconds, one of `DELAY_STEPS_MS`.
 */
export function pickDelayMs(attempt: number, random: () => number): number {
  const steps = Math.min(Math.max(Math.trunc(attempt), 1), DELAY_STEPS_MS.length)
  const delayMs = DELAY_STEPS_MS[Math.floor(random() * steps)]
  if (delayMs === undefined) throw new RangeError('random() must give a number in [0, 1)')
  return delayMs
}
