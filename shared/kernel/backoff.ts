/** The waits between tries, in milliseconds: 1, 2, 4 … 256 s. One wait queue exists for each. */
export const DELAY_STEPS_MS: readonly number[] = [
  1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000,
]

/** How many steps a wait is picked from. From all of them, one job in four would have had its twelve attempts within two minutes. */
const JITTER_STEPS = 4

/**
 * The wait before the next try: exponential backoff with jitter, on fixed steps. The bound doubles with each attempt,
 * and the wait is one of the last four steps up to it, picked at random, so that jobs that failed together come back
 * apart ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015), and yet none in a hurry.
 * @param attempt how many tries have failed, from 1.
 * @param random gives a number in [0, 1), such as `Math.random`.
 * @returns milliseconds, one of `DELAY_STEPS_MS`.
 */
export function pickDelayMs(attempt: number, random: () => number): number {
  const steps = Math.min(Math.max(Math.trunc(attempt), 1), DELAY_STEPS_MS.length)
  const choice = Math.min(steps, JITTER_STEPS)
  const delayMs = DELAY_STEPS_MS[steps - choice + Math.floor(random() * choice)]
  if (delayMs === undefined) throw new RangeError('random() must give a number in [0, 1)')
  return delayMs
}
