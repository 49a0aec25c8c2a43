import { setTimeout as delay } from 'node:timers/promises'

/** Resolves after `ms`, or at once when the signal aborts; never rejects. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>

export const systemSleep: Sleep = async (ms, signal) => {
  await delay(ms, undefined, signal && { signal }).catch(() => undefined)
}

/**
 * Waits for a call, but not longer than `deadlineMs`.
 * @param late is given the value of a call that succeeds only after that
 * @throws Error once the deadline has passed, or whatever the call throws
 */
export async function withDeadline<T>(
  call: Promise<T>,
  deadlineMs: number,
  sleep: Sleep,
  late: (value: T) => void,
): Promise<T> {
  const settled = new AbortController()
  const passed = sleep(deadlineMs, settled.signal).then((): never => {
    if (!settled.signal.aborted) call.then(late, () => undefined)
    throw new Error(`There was no answer within ${deadlineMs} ms.`)
  })
  try {
    return await Promise.race([call, passed])
  } finally {
    settled.abort()
    passed.catch(() => undefined)
  }
}
