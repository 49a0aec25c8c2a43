import { sqlstateOf } from './database-errors.ts'

/** Node's words for a server that cannot be reached or went away. */
const SOCKET_CODES = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH',
  'ENETUNREACH', 'ENOENT',
])
/**
 * PostgreSQL's: shutting down, crashed, starting (57P01 … 57P03); too many connections, out of memory or disk
 * (class 53); a lock or a statement that timed out (55P03, 57014); read-only after a failover (25006). And ours: a
 * logical shard that is on no node for the moment (MG001).
 */
const SERVER_STATES = /^(08...|53...|57P0[1-5]|55P03|57014|25006|MG001)$/
/** What pg and its pool say without a code of their own. */
const MESSAGES =
  /^(timeout exceeded when trying to connect|Connection terminated|Query read timeout|Client has encountered a connection error|Cannot use a pool after calling end)/

/**
 * True for an error that says the database could not answer just now: worth another try later, and nobody's mistake.
 * An error that tries several addresses (AggregateError) counts when each of them does.
 */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.every(isDatabaseUnavailable)
  // Only what comes from a connection: a missing file says ENOENT too, a missing socket says it of `connect`.
  const { code, syscall } = error as { code?: unknown; syscall?: unknown }
  if (code === 'ENOENT') return syscall === 'connect'
  if (typeof code === 'string' && SOCKET_CODES.has(code)) return true
  return SERVER_STATES.test(sqlstateOf(error) ?? '') || MESSAGES.test(error.message)
}
