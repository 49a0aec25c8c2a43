/** SQLSTATE raised by `enter_shard` when the shard is not this node's to write. */
export const SHARD_MOVED_SQLSTATE = 'MG001'
export const UNIQUE_VIOLATION_SQLSTATE = '23505'

/** States after which the same transaction, run again, may well succeed: serialization failure and deadlock. */
const RETRYABLE_SQLSTATES = new Set(['40001', '40P01'])

/** The SQLSTATE of an error that PostgreSQL sent, or undefined for any other value. */
export function sqlstateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' && error.code.length === 5 ? error.code : undefined
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
