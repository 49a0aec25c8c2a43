import { sql } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { AppRouter } from '../database.ts'
import { mergeEntries, type FeedEntry } from './feed.rules.ts'

/** A stretch of a feed, before anything is known of its photos. */
export interface Skeleton {
  /** Newest first, and without a gap as far as the follows below are concerned. */
  readonly entries: readonly FeedEntry[]
  /** True when nothing comes after the last entry. */
  readonly ended: boolean
  /** The follows that the entries are complete for: see `readFollowed`. */
  readonly basis: FollowBasis
}

/** Entries are complete for the authors listed, and for those whose follow was backfilled by `backfilledBy`. */
interface FollowBasis {
  readonly authors: readonly Id[]
  /** A timestamp of the reader's node, in PostgreSQL's own text: a Date would round it. */
  readonly backfilledBy: string
}

/** Where a stretch begins (exclusive) and how many entries it may have. */
interface Stretch {
  readonly before: Id
  readonly rows: number
}

interface StoredState {
  readonly read_at: string
  readonly boundary: Id
  readonly pending: readonly Id[]
  readonly places: readonly Id[]
  readonly photos: readonly Id[]
}

/**
 * The next stretch of a feed: above the boundary (the account's floor or `retention`, whichever is later) the stored
 * entries, and the own photos of authors whose follow is not yet backfilled; below it the own photos of all followees.
 *
 * Floor, pending follows and entries are read in that order, or in one snapshot as here: a follow that is not
 * pending then had all its entries before they were read. Read after the entries, it might have been backfilled in
 * between, and its photos would be in neither list.
 */
export async function readStoredSkeleton(
  router: AppRouter,
  viewerId: Id,
  retention: Id,
  { before, rows }: Stretch,
): Promise<Skeleton> {
  const state = await readStoredState(router, viewerId, retention, { before, rows })
  if (state === undefined) return { entries: [], ended: true, basis: { authors: [], backfilledBy: '-infinity' } }
  const { boundary, pending } = state
  const basis = { authors: pending, backfilledBy: state.read_at }
  const stored = state.places.map((publishedId, index) => ({ publishedId, photoId: state.photos[index] ?? publishedId }))
  const pulled = await readAuthors(router, pending, { from: boundary, before, rows })
  const above = mergeEntries([stored, pulled], rows)
  if (above.length === rows) return { entries: above, ended: false, basis }

  const belowRows = rows - above.length
  const below = await readAuthors(router, await readFollowees(router, viewerId), {
    from: 0n as Id,
    before: before < boundary ? before : boundary,
    rows: belowRows,
  })
  return { entries: [...above, ...below], ended: below.length < belowRows, basis }
}

/** The next stretch of a feed from its authors' own photos alone: dearer, and none of it is out of date. */
export async function readAuthorsSkeleton(
  router: AppRouter,
  viewerId: Id,
  { before, rows }: Stretch,
): Promise<Skeleton> {
  const authors = await readFollowees(router, viewerId)
  const entries = await readAuthors(router, authors, { from: 0n as Id, before, rows })
  return { entries, ended: entries.length < rows, basis: { authors, backfilledBy: '-infinity' } }
}

/**
 * Which of `authors` the viewer follows now, by a follow that the skeleton is complete for. A follow that began
 * after the skeleton was read does not count: some of its entries may be there and others not yet.
 */
export async function readFollowed(
  router: AppRouter,
  viewerId: Id,
  authors: readonly Id[],
  basis: FollowBasis,
): Promise<Set<Id>> {
  if (authors.length === 0) return new Set()
  const { rows } = await sql<{ followee_id: Id }>`
    select followee_id from follows
    where follower_id = ${viewerId} and followee_id = any(${authors}::bigint[])
      and (backfilled_at <= ${basis.backfilledBy}::timestamptz or followee_id = any(${basis.authors}::bigint[]))
  `.execute(router.read(shardOf(viewerId)))
  return new Set(rows.map((row) => row.followee_id))
}

async function readStoredState(
  router: AppRouter,
  viewerId: Id,
  retention: Id,
  { before, rows }: Stretch,
): Promise<StoredState | undefined> {
  // The account's floor is applied after the limit: the planner cannot guess what it leaves, and would rather read
  // and sort the whole feed than walk the newest partitions backwards until there are enough.
  const answer = await sql<StoredState>`
    select now()::text as read_at, reader.boundary,
      array(select followee_id from follows where follower_id = ${viewerId} and backfilled_at is null) as pending,
      coalesce(stored.places, '{}') as places, coalesce(stored.photos, '{}') as photos
    from (
      select greatest(feed_floor, ${retention}::bigint) as boundary from accounts where id = ${viewerId}
    ) as reader
    cross join lateral (
      select array_agg(published_id order by published_id desc) as places,
        array_agg(photo_id order by published_id desc) as photos
      from (
        select published_id, photo_id from feed_entries
        where account_id = ${viewerId} and published_id < ${before} and published_id >= ${retention}
        order by published_id desc limit ${rows}
      ) as newest where published_id >= reader.boundary
    ) as stored`.execute(router.read(shardOf(viewerId)))
  return answer.rows[0]
}

/** Whom the viewer follows: 7,500 at most, as following more is refused. */
async function readFollowees(router: AppRouter, viewerId: Id): Promise<Id[]> {
  const rows = await router
    .read(shardOf(viewerId))
    .selectFrom('follows')
    .select('followee_id')
    .where('follower_id', '=', viewerId)
    .orderBy('followee_id')
    .execute()
  return rows.map((row) => row.followee_id)
}

/** The newest published photos of many authors, in `from` to before `before`: one statement per node, in parallel. */
async function readAuthors(
  router: AppRouter,
  authors: readonly Id[],
  { from, before, rows }: Stretch & { readonly from: Id },
): Promise<FeedEntry[]> {
  if (from >= before) return []
  const lists = await Promise.all(
    [...router.groupByNode(authors, shardOf)].map(async ([node, group]) => {
      const answer = await sql<{ published_id: Id; id: Id }>`
        select newest.published_id, newest.id
        from unnest(${group}::bigint[]) as author (id)
        cross join lateral (
          select published_id, id from photos
          where account_id = author.id and status = 'published'
            and published_id < ${before} and published_id >= ${from}
          order by published_id desc limit ${rows}
        ) as newest
        order by newest.published_id desc limit ${rows}`.execute(node.primary)
      return answer.rows.map((row) => ({ publishedId: row.published_id, photoId: row.id }))
    }),
  )
  return mergeEntries(lists, rows)
}
