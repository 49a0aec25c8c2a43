import { sql, type Selectable } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import type { AppRouter, Trx } from '../database.ts'
import type { FollowsTable } from './follows.table.ts'

export type FollowRow = Selectable<FollowsTable>

/** How two accounts stand to each other, seen from the viewer. */
export interface Relationship {
  readonly following: boolean
  readonly followedBy: boolean
}

/** One page of a list that is ordered by follows.id, newest first. */
export interface FollowPage {
  readonly before: Id | null
  readonly limit: number
}

/** Inserts a follow, not backfilled yet; false when it is there already. */
export async function insertFollow(
  trx: Trx,
  follow: { readonly id: Id; readonly followerId: Id; readonly followeeId: Id },
): Promise<boolean> {
  const row = await trx
    .insertInto('follows')
    .values({ follower_id: follow.followerId, followee_id: follow.followeeId, id: follow.id, backfilled_at: null })
    .onConflict((conflict) => conflict.columns(['follower_id', 'followee_id']).doNothing())
    .returning('id')
    .executeTakeFirst()
  return row !== undefined
}

/** Removes a follow; false when there is none. */
export async function deleteFollow(trx: Trx, followerId: Id, followeeId: Id): Promise<boolean> {
  const { numDeletedRows } = await trx
    .deleteFrom('follows')
    .where('follower_id', '=', followerId)
    .where('followee_id', '=', followeeId)
    .executeTakeFirst()
  return numDeletedRows > 0n
}

/** How many accounts one follows, counted up to `max`. */
export async function countFollowees(trx: Trx, followerId: Id, max: number): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`select count(*) as count from (
    select from follows where follower_id = ${followerId} limit ${max}) as counted`.execute(trx)
  return Number(rows[0]?.count ?? 0n)
}

/** Who follows an account, newest first: a page of every node, merged. */
export async function listFollowers(router: AppRouter, followeeId: Id, page: FollowPage): Promise<FollowRow[]> {
  const pages = await router.readNodes((db) => {
    let query = db.selectFrom('follows').selectAll().where('followee_id', '=', followeeId).where(atHome('follower_id'))
    if (page.before !== null) query = query.where('id', '<', page.before)
    return query.orderBy('id', 'desc').limit(page.limit).execute()
  })
  return pages.flat().sort(newestFirst).slice(0, page.limit)
}

/** Whom an account follows, newest first. */
export async function listFollowees(router: AppRouter, followerId: Id, page: FollowPage): Promise<FollowRow[]> {
  return router.read(shardOf(followerId), (db) => {
    let query = db.selectFrom('follows').selectAll().where('follower_id', '=', followerId)
    if (page.before !== null) query = query.where('id', '<', page.before)
    return query.orderBy('id', 'desc').limit(page.limit).execute()
  })
}

/**
 * How the viewer stands to each of `ids`: both directions in one statement per node, in parallel.
 * Towards oneself everything is false.
 */
export async function readRelationships(
  router: AppRouter,
  viewerId: Id,
  ids: readonly Id[],
): Promise<Map<Id, Relationship>> {
  const following = new Set<Id>()
  const followers = new Set<Id>()
  const pairs = await router.readEach([viewerId, ...ids], shardOf, (db, group) =>
    db
      .selectFrom('follows')
      .select(['follower_id', 'followee_id'])
      .where((where) => {
        const followed = where.and([where('followee_id', '=', viewerId), where('follower_id', '=', sql<Id>`any(${group})`)])
        // Elsewhere the viewer's own follows may be what its shard has left behind.
        if (!group.includes(viewerId)) return followed
        return where.or([
          followed,
          where.and([where('follower_id', '=', viewerId), where('followee_id', '=', sql<Id>`any(${ids})`)]),
        ])
      })
      .execute(),
  )
  for (const row of pairs.flat()) {
    if (row.follower_id === viewerId) following.add(row.followee_id)
    else followers.add(row.follower_id)
  }
  return new Map(ids.map((id) => [id, { following: following.has(id), followedBy: followers.has(id) }]))
}

function newestFirst(a: FollowRow, b: FollowRow): number {
  return a.id > b.id ? -1 : 1
}
