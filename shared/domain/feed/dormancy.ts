import { sql } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import type { Trx } from '../database.ts'
import { keysOfFeedChange } from '../follows/following.cache.ts'
import type { MarkStale } from '../write-through.ts'
import { raiseFloor, requestRebuild } from './feed.rebuild.ts'
import { raisedFloor } from './feed.rules.ts'

/*
 * Fan-out skips the followers that have not been seen for a month. Why their feeds have no gap when they come back:
 *
 * - To be skipped an account must be marked dormant, together with its follows, in one transaction. To come back it is
 *   marked awake, its follows with it, its floor raised and a rebuild asked for, in one transaction, before the request
 *   that brought it back is served. Both lock its row.
 * - A fan-out reads follows in one snapshot per page. If that is of before the return, the photo was published before
 *   it, and lies below the raised floor; if of after, the page has the follower. See `feed.rebuild.ts` for the rest.
 * - Who reads a feed is not dormant. A request of a session that was last seen within `RETURN_AFTER_MS` goes on without
 *   asking, and an account with such a session is not marked: `DORMANT_AFTER_MS` is a day longer, more than any clock is
 *   off, any request lasts, and any session stays in the cache.
 */

const DAY_MS = 86_400_000
/** An account that nobody has used for so long is passed over by fan-outs. */
export const DORMANT_AFTER_MS = 30 * DAY_MS
/** A session that was last seen so long ago may be of a dormant account. */
export const RETURN_AFTER_MS = DORMANT_AFTER_MS - DAY_MS

/**
 * Marks an account dormant, if it and all its sessions were last seen before `before`.
 *
 * @returns true when this call did it
 */
export async function putToRest(trx: Trx, accountId: Id, before: Date): Promise<boolean> {
  const account = await trx
    .selectFrom('accounts')
    .select('id')
    .where('id', '=', accountId)
    .where('dormant', '=', false)
    .where('last_seen_at', '<', before)
    .forNoKeyUpdate()
    .executeTakeFirst()
  if (account === undefined) return false
  const { numUpdatedRows } = await trx
    .updateTable('accounts')
    .set({ dormant: true })
    .where('id', '=', accountId)
    .where(sql<boolean>`not exists (select from sessions where account_id = ${accountId} and last_seen_at >= ${before})`)
    .executeTakeFirst()
  if (numUpdatedRows === 0n) return false
  await trx.updateTable('follows').set({ active: false }).where('follower_id', '=', accountId).where('active', '=', true).execute()
  return true
}

/**
 * Notes that an account was in use at `nowMs`; never turns the time back. One that was dormant is awake with the
 * commit, and its feed may be read.
 */
export async function noteSeen(trx: Trx, stale: MarkStale, accountId: Id, nowMs: number): Promise<void> {
  const now = new Date(nowMs)
  const seen = await trx
    .updateTable('accounts')
    .set({ last_seen_at: now })
    .where('id', '=', accountId)
    .where((where) => where.or([where('last_seen_at', '<', now), where('dormant', '=', true)]))
    .returning('dormant')
    .executeTakeFirst()
  if (seen?.dormant !== true) return
  await trx.updateTable('accounts').set({ dormant: false }).where('id', '=', accountId).execute()
  await trx.updateTable('follows').set({ active: true }).where('follower_id', '=', accountId).where('active', '=', false).execute()
  await raiseFloor(trx, [accountId], raisedFloor(nowMs))
  await requestRebuild(trx, [accountId])
  stale(keysOfFeedChange(accountId))
}
