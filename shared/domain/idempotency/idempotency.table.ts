import type { ColumnType, JSONColumnType } from 'kysely'
import type { Id, Shard } from '#kernel/snowflake.ts'

export interface IdempotencyKeysTable {
  account_id: Id
  key: string
  /** Minted before the work, so that a retry after a crash makes the same thing. */
  resource_id: Id
  locked_until: Date
  fingerprint: string | null
  status: number | null
  response: JSONColumnType<object> | null
  created_at: ColumnType<Date, Date | undefined, Date>
}

/** A key of a request without an account. It lies on the shard of its own hash. */
export interface AnonymousIdempotencyKeysTable extends Omit<IdempotencyKeysTable, 'account_id' | 'fingerprint'> {
  shard: Shard
  fingerprint: string
}
