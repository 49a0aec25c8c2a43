import { firstIdAt, msOf, shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { readAuthors } from '#domain/feed/feed.authors.ts'
import { feedRebuild } from '#domain/feed/feed.events.ts'
import { findRaisedFloor, lowerFloor, readFollowIds, type RebuildStep } from '#domain/feed/feed.rebuild.ts'
import { laterId, storageFloor } from '#domain/feed/feed.rules.ts'
import { keysOfFeedChange } from '#domain/follows/following.cache.ts'
import { writeThrough } from '#domain/write-through.ts'
import type { Handler } from '#platform/outbox/transport.ts'

/** Entries brought into the feed by one transaction. */
export const REBUILD_STEP_ROWS = 2_000
/** The first step looks back so far; each is twice as far as the one before, while it finds less than a step may bring. */
const FIRST_STEP_MS = 8 * 86_400_000

type RebuildContext = Pick<Context, 'router' | 'invalidations' | 'clock'>

/**
 * feed.rebuild → all entries of all followees stand in the feed again, and the account's floor lies below them. From
 * the newest down; each step lowers the floor to where it has come, so a delivery that comes again goes on there, and of
 * two at once one ends. Why no photo is missed: see `feed.rebuild.ts`.
 */
export function rebuildFeed(
  context: RebuildContext,
  stepRows = REBUILD_STEP_ROWS,
): Handler<typeof feedRebuild.schema> {
  const { router, clock } = context
  return {
    event: feedRebuild,
    async handle({ accountId: text }, job) {
      const accountId = BigInt(text) as Id
      let from = await findRaisedFloor(router, accountId)
      let follows = await readFollowIds(router, accountId)
      const target = storageFloor(clock.nowMs())
      let reachMs = FIRST_STEP_MS
      while (from !== undefined) {
        job.signal.throwIfAborted()
        const end = laterId(target, firstIdAt(msOf(from.floor) - reachMs))
        const entries = await readAuthors(router, [...follows.keys()], { from: end, before: from.floor, rows: stepRows })
        const last = entries.length === stepRows ? entries.at(-1) : undefined
        // Where nothing was stored the floor may lie below the target already, and stays.
        const to = last?.publishedId ?? (end < from.floor ? end : from.floor)
        const step = { accountId, follows, from, entries, to, isLast: to <= target }
        const outcome = await take(context, step)
        if (outcome === 'raised' || (outcome === 'lowered' && step.isLast)) return
        if (outcome === 'followed') follows = await readFollowIds(router, accountId)
        else from = { ...from, floor: to }
        reachMs = last === undefined ? reachMs * 2 : Math.max(1, Math.floor(reachMs / 2))
      }
    },
  }
}

/** A cached set that still has the higher floor is right, and only dearer: so the last step alone drops it. */
function take(context: RebuildContext, step: RebuildStep): ReturnType<typeof lowerFloor> {
  return writeThrough(context, shardOf(step.accountId), (trx, stale) => {
    if (step.isLast) stale(keysOfFeedChange(step.accountId))
    return lowerFloor(trx, step)
  })
}
