import type { Generated } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'

/** In the directory: whose photos readers have to pull, and between which places (published_ids, inclusive). */
export interface PulledAuthorsTable {
  author_id: Id
  first_published_id: Id
  /** Null: there may be more. */
  last_published_id: Id | null
  /** The author's pull_epoch for which the row was opened. */
  epoch: number
  opened_at: Generated<Date>
}
