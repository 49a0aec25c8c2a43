import { withTrace } from '../logger/trace.ts'
import type { Logger } from '../logger/logger.ts'
import { bodyProblem } from './event-contract.ts'
import type { Delivery, Failure, Handler, Job, Outcome } from './transport.ts'

/** How a consumer runs its jobs; the same for every transport. */
export interface JobRules {
  readonly handlers: ReadonlyMap<string, Handler>
  readonly deadlineMs: number
  readonly maxAttempts: number
  /** The wait before the next attempt, given how many have failed. */
  readonly delayMs: (attempt: number) => number
  readonly log: Logger
}

/** Attempts beyond the last that are spent on a failing `exhausted` hook before the message is buried without it. */
export const EXHAUSTED_HOOK_ATTEMPTS = 3
const DETAIL_CHARACTERS_MAX = 2_000

/** The reason of an abort at shutdown. */
export class ShutdownError extends Error {
  constructor() {
    super('the process is leaving')
    this.name = 'ShutdownError'
  }
}

class DeadlineError extends Error {
  readonly code = 'deadline'

  constructor(deadlineMs: number) {
    super(`the handler ran for longer than ${deadlineMs} ms`)
    this.name = 'DeadlineError'
  }
}

/**
 * Runs one delivery in the trace of its request and says what is to become of it. Settles at the deadline even if
 * the handler never does.
 *
 * @param abort the consumer's handle on the job: aborting it with a `ShutdownError` gives the outcome `returned`
 */
export async function runJob(delivery: Delivery, rules: JobRules, abort: AbortController): Promise<Outcome> {
  const handler = rules.handlers.get(delivery.event)
  if (handler === undefined) {
    return dead(delivery, rules, { cause: 'unknown_event', detail: `no handler takes ${delivery.event}` })
  }
  const wrong = bodyProblem(handler.event, delivery.body)
  if (wrong !== undefined) return dead(delivery, rules, { cause: 'invalid_body', detail: wrong })

  const trace = { requestId: delivery.requestId, jobId: delivery.messageId }
  return withTrace(trace, () => attemptJob(handler, delivery, rules, abort))
}

async function attemptJob(
  handler: Handler,
  delivery: Delivery,
  rules: JobRules,
  abort: AbortController,
): Promise<Outcome> {
  const { attempt, messageId: id, requestId, body } = delivery
  const job: Job = { id, attempt, requestId, signal: abort.signal, log: rules.log }
  // Beyond the last attempt only if the worker died during it, or if the hook failed: the handler had its chances.
  let failure: Failure = delivery.lastFailure ?? { cause: 'abandoned', detail: 'the worker died during the attempt' }
  if (attempt <= rules.maxAttempts) {
    try {
      await beforeDeadline(() => handler.handle(body, job), rules.deadlineMs, abort)
      return { kind: 'done' }
    } catch (error) {
      if (abort.signal.reason instanceof ShutdownError) return { kind: 'returned' }
      failure = describeFailure(error)
      if (attempt < rules.maxAttempts) return retry(delivery, rules, failure, error)
    }
  }
  return giveUp(handler, delivery, rules, failure)
}

/** The last attempt has failed: the handler's hook, then the grave. */
async function giveUp(handler: Handler, delivery: Delivery, rules: JobRules, failure: Failure): Promise<Outcome> {
  if (handler.exhausted === undefined) return dead(delivery, rules, failure)
  // A signal of its own: the handler's may be what failed.
  const abort = new AbortController()
  const { attempt, messageId: id, requestId, body } = delivery
  const job: Job = { id, attempt, requestId, signal: abort.signal, log: rules.log }
  try {
    await beforeDeadline(async () => handler.exhausted?.(body, job, failure), rules.deadlineMs, abort)
  } catch (error) {
    if (attempt < rules.maxAttempts + EXHAUSTED_HOOK_ATTEMPTS) return retry(delivery, rules, failure, error)
    rules.log.error({ err: error, event: delivery.event }, 'the exhausted hook failed; burying the message without it')
  }
  return dead(delivery, rules, failure)
}

/** Awaits `work` for at most `deadlineMs`, and less if `abort` fires; then it rejects with the reason. */
async function beforeDeadline(work: () => Promise<void>, deadlineMs: number, abort: AbortController): Promise<void> {
  const cut = Promise.withResolvers<never>()
  const onAbort = (): void => cut.reject(abort.signal.reason)
  abort.signal.addEventListener('abort', onAbort, { once: true })
  const timer = setTimeout(() => abort.abort(new DeadlineError(deadlineMs)), deadlineMs)
  try {
    await Promise.race([work(), cut.promise])
  } finally {
    clearTimeout(timer)
    abort.signal.removeEventListener('abort', onAbort)
  }
}

function retry(delivery: Delivery, rules: JobRules, failure: Failure, error: unknown): Outcome {
  const delayMs = rules.delayMs(delivery.attempt)
  const facts = { err: error, event: delivery.event, attempt: delivery.attempt, retryInMs: delayMs }
  rules.log.warn(facts, 'a job failed and will be tried again')
  return { kind: 'retry', delayMs, failure }
}

function dead(delivery: Delivery, rules: JobRules, failure: Failure): Outcome {
  const { messageId: jobId, requestId, event, attempt } = delivery
  rules.log.error({ jobId, requestId, event, attempt, ...failure }, 'a message is now a dead letter')
  return { kind: 'dead', failure }
}

/** An error as a dead letter keeps it. PostgreSQL's text cannot hold NUL. */
function describeFailure(error: unknown): Failure {
  if (!(error instanceof Error)) return { cause: 'unknown', detail: clean(String(error)) }
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name
  return { cause: clean(code), detail: clean(error.message) }
}

function clean(text: string): string {
  return text.replaceAll('\0', '').slice(0, DETAIL_CHARACTERS_MAX)
}
