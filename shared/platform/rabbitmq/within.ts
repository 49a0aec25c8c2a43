/** Waits for `work` to end, well or badly, but no longer than `ms`. */
export async function within(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  if (work === undefined) return
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => late.resolve(undefined), ms)
  await Promise.race([work.catch(() => undefined), late.promise])
  clearTimeout(timer)
}

/** The broker has not answered in time; whether it has done what it was asked is not known. */
export class BrokerSilentError extends Error {
  readonly code = 'broker_silent'

  constructor(step: string, ms: number) {
    super(`The broker has not answered within ${ms} ms: ${step}.`)
    this.name = 'BrokerSilentError'
  }
}

/**
 * Gives the broker's answer. The library itself waits for one as long as the connection lasts: 20 s if the other side is
 * gone, and for ever if it is there and does nothing.
 *
 * @param step says what was asked, as of the moment when the time is up
 * @throws BrokerSilentError after `ms`; the error of `answer`
 */
export async function answerWithin<T>(answer: Promise<T>, ms: number, step: () => string): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new BrokerSilentError(step(), ms)), ms)
  try {
    return await Promise.race([answer, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
