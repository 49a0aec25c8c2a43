import { withinDeadline } from '../lifecycle/deadline.ts'

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
export function answerWithin<T>(answer: Promise<T>, ms: number, step: () => string): Promise<T> {
  return withinDeadline(answer, ms, () => new BrokerSilentError(step(), ms))
}
