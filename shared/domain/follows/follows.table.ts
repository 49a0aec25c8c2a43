import type { Generated } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'

export interface FollowsTable {
  follower_id: Id
  followee_id: Id
  /** A Snowflake of the follower's shard: when the follow began, and its place in both lists. */
  id: Id
  /** Null while the followee's earlier photos are still merged into the follower's feed at read. */
  backfilled_at: Date | null
  /** False while the follower is dormant. */
  active: Generated<boolean>
}
