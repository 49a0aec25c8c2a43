import { problem } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { publishEvent } from '#platform/outbox/publish.ts'
import { accountNotFound, findAccount } from '../accounts/accounts.queries.ts'
import type { Context } from '../context.ts'
import { addDelta } from '../counters/counters.queries.ts'
import { writeThrough } from '../write-through.ts'
import { keysOfFollowChange } from './following.cache.ts'
import { followCreated } from './follows.events.ts'
import { countFollowees, deleteFollow, insertFollow } from './follows.queries.ts'
import { FOLLOWEES_MAX } from './follows.rules.ts'

export type FollowContext = Pick<Context, 'router' | 'invalidations' | 'ids'>

/**
 * Lets one account follow another; again changes nothing. Row, counts and the backfill's message are one
 * transaction on the follower's shard.
 *
 * @throws ProblemError self_follow, not_found, too_many_following
 */
export async function follow(context: FollowContext, followerId: Id, followeeId: Id): Promise<void> {
  const { router, ids } = context
  if (followerId === followeeId) throw problem('self_follow', 'An account cannot follow itself.')
  if ((await findAccount(router, followeeId)) === undefined) throw accountNotFound()
  const shard = shardOf(followerId)
  const id = await ids.mint(shard)
  await writeThrough(context, shard, async (trx, stale) => {
    // Also when nothing changes: it may have been changed by a request that never learnt so.
    stale(keysOfFollowChange(followerId, followeeId))
    // One follow at a time for each follower, so that the limit holds.
    await trx.selectFrom('accounts').select('id').where('id', '=', followerId).forNoKeyUpdate().execute()
    if (!(await insertFollow(trx, { id, followerId, followeeId }))) return
    if ((await countFollowees(trx, followerId, FOLLOWEES_MAX + 1)) > FOLLOWEES_MAX) {
      throw problem('too_many_following', `An account follows at most ${FOLLOWEES_MAX} others.`)
    }
    await addDelta(trx, followerId, 'following', 1)
    await addDelta(trx, followeeId, 'followers', 1)
    await publishEvent(trx, followCreated, {
      followerId: followerId.toString(),
      followeeId: followeeId.toString(),
    })
  })
}

/**
 * Ends a follow; without one it changes nothing. Feed entries stay: the reader shows only whom one follows now.
 *
 * @throws ProblemError self_follow, not_found
 */
export async function unfollow(
  context: Pick<FollowContext, 'router' | 'invalidations'>,
  followerId: Id,
  followeeId: Id,
): Promise<void> {
  if (followerId === followeeId) throw problem('self_follow', 'An account cannot unfollow itself.')
  if ((await findAccount(context.router, followeeId)) === undefined) throw accountNotFound()
  await writeThrough(context, shardOf(followerId), async (trx, stale) => {
    stale(keysOfFollowChange(followerId, followeeId))
    if (!(await deleteFollow(trx, followerId, followeeId))) return
    await addDelta(trx, followerId, 'following', -1)
    await addDelta(trx, followeeId, 'followers', -1)
  })
}
