import { AsyncLocalStorage } from 'node:async_hooks'

/** What ties the log lines, messages and jobs of one request together. */
export interface Trace {
  readonly requestId: string | null
  readonly jobId: string | null
  /** What it has cost so far; absent where nobody counts. */
  readonly cost?: TracedCost
}

/** Counted while a request runs. */
export interface TracedCost {
  /** Statements sent to PostgreSQL, those that begin and end transactions included. */
  statements: number
}

/** Of what belongs to no request and no job. */
export const NO_TRACE: Trace = { requestId: null, jobId: null }
const storage = new AsyncLocalStorage<Trace>()

/** Runs `work` and everything it awaits under `trace`; gives back what `work` gives. */
export function withTrace<T>(trace: Trace, work: () => T): T {
  return storage.run(trace, work)
}

/** The trace of the running request or job; both ids are null outside of one. */
export function currentTrace(): Trace {
  return storage.getStore() ?? NO_TRACE
}

/** Counts a statement for the request that sends it. */
export function countStatement(): void {
  const cost = storage.getStore()?.cost
  if (cost !== undefined) cost.statements++
}
