/** SQLSTATE raised by `enter_shard` when the shard is not this node's to write. */
export const SHARD_MOVED_SQLSTATE = 'MG001'
const UNIQUE_VIOLATION_SQLSTATE = '23505'

/** The same, found out by ourselves: a logical shard is on no node that we can reach for the moment. */
export class ShardMovedError extends Error {
  readonly code = SHARD_MOVED_SQLSTATE

  constructor(message: string) {
    super(message)
    this.name = 'ShardMovedError'
  }
}

/** States after which the same transaction, run again, may well succeed: serialization failure and deadlock. */
const RETRYABLE_SQLSTATES = new Set(['40001', '40P01'])

/** The SQLSTATE of an error that PostgreSQL sent, or undefined for any other value. */
export function sqlstateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' && error.code.length === 5 ? error.code : undefined
}

/** Sent as a connection ends (class 08, and 57P01 to 57P05): a COMMIT under way may have been heard before. */
const CONNECTION_SQLSTATES = /^(08...|57P0.)$/

/**
 * True when PostgreSQL itself has said no: the transaction is rolled back. Anything else may be the loss of the answer to
 * a COMMIT that took place.
 */
export function isRolledBack(error: unknown): boolean {
  const state = sqlstateOf(error)
  // Only what the server sent has a severity; EPIPE has five letters, too.
  return state !== undefined && error instanceof Error && 'severity' in error && !CONNECTION_SQLSTATES.test(state)
}

/** True for the unique violation of that constraint or index; of any, when no name is given. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  if (sqlstateOf(error) !== UNIQUE_VIOLATION_SQLSTATE) return false
  return constraint === undefined || (error as { constraint?: string }).constraint === constraint
}

export function isShardMoved(error: unknown): boolean {
  return sqlstateOf(error) === SHARD_MOVED_SQLSTATE
}

export function isRetryable(error: unknown): boolean {
  const state = sqlstateOf(error)
  return state !== undefined && RETRYABLE_SQLSTATES.has(state)
}
