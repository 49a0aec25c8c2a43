import type { Generated } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'

/** What is counted of an account. */
export type CounterKind = 'photos' | 'followers' | 'following'

export interface CountersTable {
  subject_id: Id
  kind: CounterKind
  total: bigint
}

export interface CounterDeltasTable {
  id: Generated<bigint>
  subject_id: Id
  kind: CounterKind
  delta: number
}
