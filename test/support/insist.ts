import { setTimeout as wait } from 'node:timers/promises'
import type { ApiClient, CallOptions, Problem } from './api-client.ts'

const RECONNECT_MS = 50
const DEADLINE_MS = 60_000
/** What a client is told to try again after. */
const RETRIED_CODES = new Set(['idempotency_in_progress', 'unavailable', 'ids_unavailable', 'rate_limited'])

/**
 * Sends a request until it succeeds, as a good client does: again at once when the connection is lost, and as
 * Retry-After says when it is told to. Only for requests that may be repeated: those of relations, and POSTs with a key.
 *
 * @throws Error for any other problem, and when a minute did not suffice
 */
export async function insist<T>(api: ApiClient, method: string, path: string, options: CallOptions): Promise<T> {
  const deadline = performance.now() + DEADLINE_MS
  for (;;) {
    let again: string
    try {
      const { status, headers, body } = await api.call<T & Problem>(method, path, options)
      if (status < 400) return body
      again = `${method} ${path}: ${status} ${JSON.stringify(body)}`
      if (!RETRIED_CODES.has(body.code)) throw new Error(again)
      await wait(Number(headers.get('retry-after')) * 1_000)
    } catch (error) {
      // fetch gives this for a connection that was refused or lost.
      if (!(error instanceof TypeError)) throw error
      again = error.cause instanceof Error ? error.cause.message : error.message
      await wait(RECONNECT_MS)
    }
    if (performance.now() > deadline) throw new Error(`no success within ${DEADLINE_MS} ms; the last try: ${again}`)
  }
}
