import { sql } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import type { AppRouter, Trx } from '../database.ts'
import { feedRebuild } from './feed.events.ts'
import type { FeedEntry } from './feed.rules.ts'
import { addEntries } from './feed.writes.ts'

/*
 * A feed whose stored entries are not to be relied on any more (its account comes back after a long time, or moves to
 * another node) has its floor raised above all of them, and is then rebuilt from its authors' own photos. Whoever
 * raises a floor says by that: from now on every fan-out brings this feed what it publishes. So:
 *
 *   raise the floor and commit it → drop the cached set (`keysOfFeedChange`) → ask for the rebuild,
 *
 * the last one in the same transaction as the first or in a later one, on the node where the account then is. When a
 * shard moves, the copies of its accounts are raised, which is committed as it were when they arrive (`arrive-shard.ts`).
 *
 * Why a rebuild misses no photo: it begins after the raise is committed. Take any photo of a followee. If its
 * publication was committed before our step read the author's photos, we insert it. If not, its fan-out begins later
 * still, and brings it. The order of published_id plays no part in it. What a fan-out that read its followers before the
 * raise did not bring here was published earlier than that, so it lies below the raised floor, where readers ask the
 * authors until we are done; hence the margin of `raisedFloor`.
 *
 * Why none is promised too early: the floor is lowered only in a transaction that holds the account's row and finds there
 * no raise since we began, and no backfilled follow but those whose photos we have read. A backfill that began with the
 * higher floor finds, under the same lock, that it must go on (`markBackfilled`).
 */

/**
 * Raises the floors of accounts of one shard, and notes that their feeds are to be rebuilt. The caller lets the cache
 * forget `keysOfFeedChange` of each.
 *
 * @param floor `raisedFloor` of now
 */
export async function raiseFloor(trx: Trx, accountIds: readonly Id[], floor: Id): Promise<void> {
  await sql`
    with raised as materialized (
      select id from accounts where id = any(${accountIds}::bigint[]) order by id for no key update
    )
    update accounts set feed_floor = greatest(feed_floor, ${floor}), feed_raises = feed_raises + 1, rebuild_asked_at = now()
    from raised where accounts.id = raised.id`.execute(trx)
}

/** Asks for the rebuild of feeds, when the transaction has been committed; their floors are raised. */
export async function requestRebuild(trx: Trx, accountIds: readonly Id[]): Promise<void> {
  await publishEvents(
    trx,
    accountIds.map((id) => message(feedRebuild, { accountId: id.toString() })),
  )
}

/**
 * What `raiseFloor` does, as SQL for the copy of an account's row `r` to the node to which its shard moves; the floor
 * counts from the shard's arrival on. Done to the copy again it changes nothing, so both can be compared.
 *
 * @param floor that no account has yet, `copiedFloor`
 */
export function raisedColumns(floor: Id, nowMs: number): Record<'feed_floor' | 'feed_raises' | 'rebuild_asked_at', string> {
  const isToRaise = `(r.status = 'active' and r.feed_floor <> ${floor})`
  const now = `'${new Date(nowMs).toISOString()}'::timestamptz`
  return {
    feed_floor: `case when ${isToRaise} then ${floor}::bigint else r.feed_floor end`,
    feed_raises: `r.feed_raises + ${isToRaise}::int`,
    rebuild_asked_at: `case when ${isToRaise} then ${now} else r.rebuild_asked_at end`,
  }
}

/** Asks for the rebuild of those feeds of a shard, from one account to another, that are to be rebuilt and are read. */
export async function requestRebuilds(trx: Trx, first: Id, last: Id): Promise<void> {
  const { rows } = await sql<{ id: Id }>`
    select id from accounts where ((id >> 10) & 8191) = ${shardOf(first)} and id between ${first} and ${last}
      and status = 'active' and not dormant and rebuild_asked_at is not null order by id`.execute(trx)
  await requestRebuild(trx, rows.map(({ id }) => id))
}

/** How a rebuild finds an account, and finds it again. */
export interface RaisedFloor {
  readonly floor: Id
  readonly raises: number
}

/** The floor of an account whose feed is to be rebuilt; undefined when it is not, or rests until the account returns. */
export async function findRaisedFloor(router: AppRouter, accountId: Id): Promise<RaisedFloor | undefined> {
  const row = await router.read(shardOf(accountId), (db) =>
    db
      .selectFrom('accounts')
      .select(['feed_floor', 'feed_raises'])
      .where('id', '=', accountId)
      .where('rebuild_asked_at', 'is not', null)
      .where('dormant', '=', false)
      .executeTakeFirst(),
  )
  return row && { floor: row.feed_floor, raises: row.feed_raises }
}

/** Follows as a rebuild sees them, by followee: a later one of the same two has another id. */
export type FollowIds = ReadonlyMap<Id, Id>

/** The follows of an account whose photos its rebuild must bring. */
export async function readFollowIds(router: AppRouter, accountId: Id): Promise<FollowIds> {
  const rows = await router.read(shardOf(accountId), (db) =>
    db.selectFrom('follows').select(['followee_id', 'id']).where('follower_id', '=', accountId).execute(),
  )
  return new Map(rows.map((row) => [row.followee_id, row.id]))
}

/** One step of a rebuild: the entries of these follows from `to` to before the floor, all of them. */
export interface RebuildStep {
  readonly accountId: Id
  readonly follows: FollowIds
  readonly from: RaisedFloor
  readonly entries: readonly FeedEntry[]
  readonly to: Id
  /** True when nothing is left to do below `to`. */
  readonly isLast: boolean
}

/**
 * Inserts the entries of a step and lowers the floor to where they reach.
 *
 * @returns `raised`: somebody raised the floor or finished meanwhile; `followed`: a follow was backfilled that is not
 *   among those of the step. Nothing is then written.
 */
export async function lowerFloor(trx: Trx, step: RebuildStep): Promise<'lowered' | 'raised' | 'followed'> {
  const { accountId, from } = step
  const account = await trx
    .selectFrom('accounts')
    .select(['feed_floor', 'feed_raises', 'rebuild_asked_at'])
    .where('id', '=', accountId)
    .forNoKeyUpdate()
    .executeTakeFirst()
  const isSame = account?.feed_floor === from.floor && account.feed_raises === from.raises
  if (!isSame || account.rebuild_asked_at === null) return 'raised'
  const { rows } = await sql`select from follows
    where follower_id = ${accountId} and backfilled_at is not null
      and id <> all(${[...step.follows.values()]}::bigint[]) limit 1`.execute(trx)
  if (rows.length > 0) return 'followed'
  await addEntries(trx, accountId, step.entries)
  await trx
    .updateTable('accounts')
    .set({ feed_floor: step.to, ...(step.isLast && { rebuild_asked_at: null }) })
    .where('id', '=', accountId)
    .execute()
  return 'lowered'
}
