import type { Context } from '#domain/context.ts'
import { partitionFloor } from '#domain/feed/feed.rules.ts'
import { closeUnused } from '#domain/feed/pull-mode.ts'
import { dropPulledAuthors, listOpenSince } from '#domain/feed/pulled-authors.queries.ts'

/** A promotion that has not come to its end by then has died on the way. */
const UNUSED_AFTER_MS = 10 * 60_000

/**
 * Keeps the list of pulled authors short: closes what a crash left open between two steps, and forgets authors whose
 * pulled photos are all too old for stored feeds.
 */
export async function tendPulledAuthors(context: Pick<Context, 'router' | 'clock'>): Promise<void> {
  const { router, clock } = context
  const nowMs = clock.nowMs()
  for (const authorId of await listOpenSince(router, new Date(nowMs - UNUSED_AFTER_MS))) {
    await closeUnused(context, authorId)
  }
  await dropPulledAuthors(router, partitionFloor(nowMs))
}
