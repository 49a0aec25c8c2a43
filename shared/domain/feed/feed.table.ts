import type { ColumnType } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'

export interface FeedEntriesTable {
  account_id: Id
  published_id: Id
  photo_id: Id
}

/** How far a photo's fan-out has come on this node. */
export interface FanoutCursorsTable {
  photo_id: Id
  last_follower_id: Id
  updated_at: ColumnType<Date, Date | undefined, Date>
}
