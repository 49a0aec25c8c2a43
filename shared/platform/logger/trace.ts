import { AsyncLocalStorage } from 'node:async_hooks'

/** What ties the log lines, messages and jobs of one request together. */
export interface Trace {
  readonly requestId: string | null
  readonly jobId: string | null
}

const NO_TRACE: Trace = { requestId: null, jobId: null }
const storage = new AsyncLocalStorage<Trace>()

/** Runs `work` and everything it awaits under `trace`; gives back what `work` gives. */
export function withTrace<T>(trace: Trace, work: () => T): T {
  return storage.run(trace, work)
}

/** The trace of the running request or job; both ids are null outside of one. */
export function currentTrace(): Trace {
  return storage.getStore() ?? NO_TRACE
}
