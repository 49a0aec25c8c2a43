import { sql } from 'kysely'
import type { Id, Shard } from '#kernel/snowflake.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import { isUniqueViolation } from '#platform/postgres/database-errors.ts'
import type { Db, Trx } from '../database.ts'
import { partitionOf } from './feed.partitions.ts'
import type { FeedEntry } from './feed.rules.ts'

/**
 * Lets the statement's own transaction commit without waiting for the disk. A crash may then undo it, but only
 * together with whatever was committed after it; nothing else changes.
 */
const COMMIT_UNFORCED = sql`set_config('synchronous_commit', 'off', true)`

/** Starts, or finds, the record of how far a photo's fan-out has come on a node. */
export async function openFanoutCursor(db: Db, photoId: Id): Promise<void> {
  await sql`with unforced as (select ${COMMIT_UNFORCED})
    insert into fanout_cursors (photo_id, last_follower_id) select ${photoId}::bigint, 0 from unforced
    on conflict do nothing`.execute(db)
}

/**
 * Forgets how far a photo's fan-out has come on a node, after the page that is being written there.
 * A fan-out that still runs finds no cursor and ends.
 */
export async function dropFanoutCursor(db: Db, photoId: Id): Promise<void> {
  await sql`with unforced as materialized (select ${COMMIT_UNFORCED} as done)
    delete from fanout_cursors using unforced where photo_id = ${photoId} and unforced.done = 'off'`.execute(db)
}

/** Forgets cursors not moved since `before`: at most `limit`. Gives how many. */
export async function dropStaleFanoutCursors(db: Db, before: Date, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from fanout_cursors where photo_id in (
      select photo_id from fanout_cursors where updated_at < ${before} limit ${limit} for update skip locked
    )`.execute(db)
  return Number(numAffectedRows ?? 0n)
}

/**
 * Writes the entry of the next active followers of `authorId` on one node and moves the cursor past them, in one
 * statement, so in one transaction. The cursor's row is locked first: of several deliveries of one message each
 * takes another page.
 *
 * Entries that exist already (a backfill was quicker) are rare, so the check for them is not paid for every row:
 * the page is written plainly, straight into the partition, and only when that fails on a double again with care.
 *
 * A full page does not wait for the disk: a crash takes entries and cursor back together. The last page, which is
 * not full, does, and forces all pages before it: when this has returned fewer than `rows`, the node keeps them.
 *
 * @returns how many followers the page had; fewer than `rows`: the node is done
 * @throws DatabaseError 42P01 when the partition does not stand
 */
export async function fanOutPage(db: Db, authorId: Id, entry: FeedEntry, rows: number): Promise<number> {
  try {
    return await writePage(db, authorId, entry, rows, false)
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    return writePage(db, authorId, entry, rows, true)
  }
}

async function writePage(
  db: Db,
  authorId: Id,
  { publishedId, photoId }: FeedEntry,
  rows: number,
  mayExist: boolean,
): Promise<number> {
  const answer = await sql<{ followers: bigint }>`
    with place as materialized (
      select last_follower_id from fanout_cursors where photo_id = ${photoId} for update
    ), page as materialized (
      select follower_id from follows
      where followee_id = ${authorId} and active and follower_id > (select last_follower_id from place)
        and ${atHome('follower_id')}
      order by follower_id limit ${rows}
    ), written as (
      insert into ${sql.table(partitionOf(publishedId).name)} (account_id, published_id, photo_id)
      select follower_id, ${publishedId}::bigint, ${photoId}::bigint from page
      ${mayExist ? sql`on conflict do nothing` : sql``}
    ), moved as (
      update fanout_cursors set last_follower_id = (select max(follower_id) from page), updated_at = now()
      where photo_id = ${photoId} and exists (select from page)
    )
    select count(*) as followers, case when count(*) = ${rows} then ${COMMIT_UNFORCED} end from page`.execute(db)
  return Number(answer.rows[0]?.followers ?? 0n)
}

/**
 * Writes the entry for the active followers of `authorId` on one node whose shards are among `shards`: those that came
 * to it while the photo was fanned out. Some may have it already.
 */
export async function fanOutToShards(
  db: Db,
  authorId: Id,
  { publishedId, photoId }: FeedEntry,
  shards: readonly Shard[],
): Promise<void> {
  await sql`insert into feed_entries (account_id, published_id, photo_id)
    select follower_id, ${publishedId}::bigint, ${photoId}::bigint from follows
    where followee_id = ${authorId} and active
      and ((follower_id >> 10) & 8191) = any(${shards}::int[]) and ${atHome('follower_id')}
    order by follower_id on conflict do nothing`.execute(db)
}

/** Where a removal goes on: after that follower. */
export interface RemovedPage {
  readonly followers: number
  readonly last: Id | null
}

/**
 * Removes an entry from the feeds of the next followers of `authorId` on one node. Feeds of those who follow it no
 * more keep theirs, unseen, until the partition goes: there is no index by photo, and none is worth its price.
 */
export async function removeEntriesPage(
  db: Db,
  authorId: Id,
  publishedId: Id,
  page: { readonly after: Id; readonly rows: number },
): Promise<RemovedPage> {
  const answer = await sql<{ followers: bigint; last: Id | null }>`
    with page as materialized (
      select follower_id from follows
      where followee_id = ${authorId} and follower_id > ${page.after} and ${atHome('follower_id')}
      order by follower_id limit ${page.rows}
    ), removed as (
      delete from feed_entries e using page
      where e.account_id = page.follower_id and e.published_id = ${publishedId}
    )
    select count(*) as followers, max(follower_id) as last from page`.execute(db)
  const [row] = answer.rows
  return { followers: Number(row?.followers ?? 0n), last: row?.last ?? null }
}

/** A follow as one backfill sees it: a later one of the same two has another id. */
export interface FollowKey {
  readonly followerId: Id
  readonly followeeId: Id
  readonly id: Id
}

/**
 * Writes entries into the follower's feed, as long as that very follow stands. Entries may exist already.
 *
 * @returns false when the follow is over, and nothing was written
 */
export async function insertEntries(trx: Trx, follow: FollowKey, entries: readonly FeedEntry[]): Promise<boolean> {
  const standing = await trx
    .selectFrom('follows')
    .select('id')
    .where('follower_id', '=', follow.followerId)
    .where('followee_id', '=', follow.followeeId)
    .where('id', '=', follow.id)
    .executeTakeFirst()
  if (standing === undefined) return false
  await addEntries(trx, follow.followerId, entries)
  return true
}

/** Writes entries into a feed; some may be there already. */
export async function addEntries(trx: Trx, accountId: Id, entries: readonly FeedEntry[]): Promise<void> {
  if (entries.length === 0) return
  const places = entries.map((entry) => entry.publishedId)
  const photos = entries.map((entry) => entry.photoId)
  await sql`insert into feed_entries (account_id, published_id, photo_id)
    select ${accountId}::bigint, published_id, photo_id
    from unnest(${places}::bigint[], ${photos}::bigint[]) as e (published_id, photo_id)
    on conflict do nothing`.execute(trx)
}

/**
 * Says that all of the followee's photos above `floor` are in the feed, if that very follow still stands and the
 * account's floor is not below. The account's row is locked for it, as it is by whoever lowers the floor.
 *
 * @returns false when it has said nothing
 */
export async function markBackfilled(trx: Trx, follow: FollowKey, floor: Id): Promise<boolean> {
  const { numAffectedRows } = await sql`
    with reader as materialized (select feed_floor from accounts where id = ${follow.followerId} for share)
    update follows set backfilled_at = now() from reader
    where follower_id = ${follow.followerId} and followee_id = ${follow.followeeId} and id = ${follow.id}
      and backfilled_at is null and reader.feed_floor >= ${floor}`.execute(trx)
  return numAffectedRows === 1n
}
