import { firstIdAt, shardOf, type Id } from '#kernel/snowflake.ts'
import type { Config } from '#platform/config/config.ts'
import type { Context } from '../context.ts'
import { readCounts } from '../counters/counters.queries.ts'
import { raisedFloor } from './feed.rules.ts'
import { closePulledAuthor, openPulledAuthor } from './pulled-authors.queries.ts'

/*
 * Whether an author's photos are brought to the followers (fanned out) or fetched by them (pulled). Every photo says for
 * itself how it was published: the gate compares its place with the author's pull_from, in the update that publishes it.
 * So a change of mode moves no photo, and readers take from the author only photos that say they are pulled.
 *
 * Why no pulled photo is missing: before pull_from is set, the directory names the author, and pull_from lies ahead by
 * more than any reader's list is old. Why the list may be closed: pull_from is taken away first, and with that
 * pull_epoch grows; whoever had opened the row before cannot set pull_from any more, as it must find the epoch that it
 * began with. A photo that was at the gate meanwhile has its place from before, below the end that the list is given.
 */

export type PullContext = Pick<Context, 'router' | 'clock'> & { readonly config: Pick<Config, 'fanOut'> }

/** Puts an author into the mode that its followers call for; between the two limits it keeps the one it has. */
export async function reviewPullMode(context: PullContext, authorId: Id): Promise<void> {
  const { router, config } = context
  const [author, counts] = await Promise.all([
    router.read(shardOf(authorId), (db) =>
      db.selectFrom('accounts').select(['pull_from', 'pull_epoch']).where('id', '=', authorId).executeTakeFirst(),
    ),
    readCounts(router, [authorId], ['followers']),
  ])
  if (author === undefined) return
  const followers = counts.get(authorId)?.followers ?? 0
  if (author.pull_from === null && followers >= config.fanOut.promoteAt) await promote(context, authorId, author.pull_epoch)
  if (author.pull_from !== null && followers < config.fanOut.demoteAt) await endPullMode(context, authorId)
}

async function promote({ router, clock, config }: PullContext, authorId: Id, epoch: number): Promise<void> {
  const { pullDelayMs } = config.fanOut
  const begunMs = clock.monotonicMs()
  const from = firstIdAt(clock.nowMs() + pullDelayMs)
  await openPulledAuthor(router, authorId, from, epoch)
  // A process that stood still has used up the time in which readers hear of it: the next photo tries again.
  if (pullDelayMs > 0 && clock.monotonicMs() - begunMs > pullDelayMs / 2) return
  await router.write(shardOf(authorId), (trx) =>
    trx
      .updateTable('accounts')
      .set({ pull_from: from })
      .where('id', '=', authorId)
      .where('pull_from', 'is', null)
      .where('pull_epoch', '=', epoch)
      .execute(),
  )
}

/** Photos that the author publishes from now on are fanned out. */
export async function endPullMode(context: Pick<Context, 'router' | 'clock'>, authorId: Id): Promise<void> {
  await closeAfter(context, authorId, true)
}

/** Closes a row that was opened for an author who did not get into the mode; one who did keeps it. */
export async function closeUnused(context: Pick<Context, 'router' | 'clock'>, authorId: Id): Promise<void> {
  await closeAfter(context, authorId, false)
}

async function closeAfter(
  { router, clock }: Pick<Context, 'router' | 'clock'>,
  authorId: Id,
  isPulled: boolean,
): Promise<void> {
  const ended = await router.write(shardOf(authorId), (trx) =>
    trx
      .updateTable('accounts')
      .set((update) => ({ pull_from: null, pull_epoch: update('pull_epoch', '+', 1) }))
      .where('id', '=', authorId)
      .where('pull_from', isPulled ? 'is not' : 'is', null)
      .returning('pull_epoch')
      .executeTakeFirst(),
  )
  if (ended === undefined) return
  await closePulledAuthor(router, authorId, raisedFloor(clock.nowMs()), ended.pull_epoch - 1)
}
