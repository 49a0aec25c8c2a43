import { setTimeout as wait } from 'node:timers/promises'

const DEADLINE_MS = 60_000
const POLL_MS = 50

/**
 * Asks again and again, as a client does who waits for slow work, until `check` gives something other than undefined.
 *
 * @throws Error that names `what` when nothing came of it in a minute
 */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | undefined>,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const found = await check()
    if (found !== undefined) return found
    if (performance.now() > deadline) throw new Error(`${what}: not within ${deadlineMs} ms`)
    await wait(POLL_MS)
  }
}
