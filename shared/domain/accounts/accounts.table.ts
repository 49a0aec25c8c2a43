import type { ColumnType, Generated } from 'kysely'
import type { Id, Shard } from '#kernel/snowflake.ts'

/** `void` is a row that only keeps an id from ever becoming an account: see the reservation sweep. */
export type AccountStatus = 'active' | 'void' | 'deleted'
export type AccountRole = 'member' | 'moderator'

type Timestamp = ColumnType<Date, Date | undefined, Date>

export interface AccountsTable {
  id: Id
  status: AccountStatus
  role: Generated<AccountRole>
  username: string
  display_name: string
  bio: Generated<string>
  email: string | null
  private: Generated<boolean>
  /** A published_id: above it the stored feed entries are complete. */
  feed_floor: Id
  /** How often the floor was raised. */
  feed_raises: Generated<number>
  /** Since when the feed is to be rebuilt; null: it is not. */
  rebuild_asked_at: Date | null
  last_seen_at: Timestamp
  /** Photos published at this place or later are pulled by readers; null: they are fanned out. */
  pull_from: Id | null
  /** How often that mode was ended. */
  pull_epoch: Generated<number>
  /** Nobody has used it for a month: fan-outs pass it over. */
  dormant: Generated<boolean>
  created_at: Timestamp
}

export interface CredentialsTable {
  account_id: Id
  password_hash: string
  updated_at: Timestamp
}

export interface SessionsTable {
  account_id: Id
  id: Id
  secret_hash: Buffer
  user_agent: string
  created_at: Timestamp
  last_seen_at: Timestamp
  expires_at: Date
}

/** A name is reserved with the account's id before the account exists, and claimed after. */
interface ReservationColumns {
  shard: Shard
  account_id: Id
  reserved_at: Timestamp
  claimed_at: Date | null
}

export interface UsernamesTable extends ReservationColumns {
  username: string
}

export interface EmailsTable extends ReservationColumns {
  email: string
}
