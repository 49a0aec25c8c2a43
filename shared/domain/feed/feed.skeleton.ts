import { sql } from 'kysely'
import { MAX_ID, shardOf, type Id } from '#kernel/snowflake.ts'
import { cachedForm, readForm, tagged, TAG_BYTES } from '../cached-form.ts'
import type { Context } from '../context.ts'
import type { AppRouter } from '../database.ts'
import type { FollowingSet } from '../follows/following.cache.ts'
import { packPlaces, unpackPlaces, type PlaceStretch } from '../photos/photo-places.ts'
import { readAuthorRanges, readAuthors, type AuthorRange, type Stretch } from './feed.authors.ts'
import { laterId, mergeEntries, type FeedEntry } from './feed.rules.ts'
import { readPulledAuthors } from './pulled-authors.ts'
import type { PulledAuthor } from './pulled-authors.queries.ts'

/*
 * Why a feed has no gap, with and without the cache.
 *
 * A stretch of a feed is read for one following set: above the boundary (the account's floor or `retention`, whichever
 * is later) it has the stored entries, and the own photos of the authors whom the set calls pending; below it, the own
 * photos of all in the set. Nothing but the set says whom the page may show and whom it takes from where. The set is of
 * one moment, f, on the primary; the entries are read at a later one, s. Take an author in the set:
 *
 * - It is not pending. Its backfill was committed before f, so before s: all that the backfill owed is in the entries.
 *   What was published meanwhile is there as soon as its fan-out has come by, as for everybody.
 * - It is pending. Its photos come from the author, at s. Entries that are stored already are the same places.
 * - Some of its photos are pulled: never fanned out, and each says so itself. They come from the author, at s, because the
 *   list of pulled authors, read before, names it (`pull-mode.ts`). A photo that is stored all the same, by a backfill or
 *   a rebuild, is the same place.
 *
 * Read the other way round, entries first, a backfill might end in between, and an author's photos would be in neither.
 *
 * The cache keeps the order: a skeleton's key has the version of the set that it was read for, and a set has its
 * version from its own reading. So whoever reads a skeleton of this key holds a set with f < s, however old both are,
 * and no skeleton survives its set: a follow, an unfollow, the end of a backfill and a new floor drop the set
 * (`keysOfFollowChange`, `keysOfFeedChange`), and with it every skeleton. A set that is kept too long, because its
 * delete was lost, still agrees with its skeletons: it may call pending who is not, which costs time alone.
 *
 * The cache is filled from primaries, so f is a moment of the reader's primary, and a set has its position in that one's
 * log: entries that are then read from a replica are read from one that has replayed as far (s as the log counts).
 * Without a cache both are read by one reader (`reader.ts`), whose servers do not go back in time.
 *
 * A floor may be raised between f and s, when the account has moved to a node where nothing is stored yet. So s brings
 * the floor of its own moment, and the higher of the two is the boundary. Whoever lowers one (`feed.rebuild.ts`) has
 * first stored all that lies above, and a set that still has the higher floor is only dearer.
 */

/** Rules are applied after it, but it does not see what is published while it lives. */
const SKELETON_LIFE_MS = 2_000
/** The longest first page, and one that tells whether another follows. */
const SKELETON_ROWS = 101
const FORM = cachedForm('feed 1', SKELETON_LIFE_MS)

/** The next stretch of a feed; the first pages may be as old as a skeleton lives. */
export async function readSkeleton(
  context: Pick<Context, 'router' | 'cache' | 'clock'>,
  viewerId: Id,
  following: FollowingSet,
  stretch: Stretch & { readonly retention: Id },
): Promise<PlaceStretch> {
  const { router, cache } = context
  const read = (source: AppRouter, part: Stretch): Promise<PlaceStretch> =>
    readStoredSkeleton({ ...context, router: source }, viewerId, following, { ...part, retention: stretch.retention })
  // Reading ahead pays only where the rest is kept.
  if (!cache.isEnabled) return read(router, stretch)
  const kept = await readForm(context, FORM, `feed:${viewerId}:${following.version}`, async (source) =>
    tagged(FORM, packPlaces(await read(source, { before: MAX_ID, rows: SKELETON_ROWS }))),
  )
  // What is read beside the cache may come from a replica: from one that has what the set was read from.
  return (kept && unpackPlaces(kept, TAG_BYTES, stretch)) ?? read(router.notBefore(shardOf(viewerId), following.readAt), stretch)
}

/** The next stretch of a feed from its authors' own photos alone: dearer, and none of it is out of date. */
export async function readAuthorsSkeleton(
  router: AppRouter,
  following: FollowingSet,
  { before, rows }: Stretch,
): Promise<PlaceStretch> {
  const places = await readAuthors(router, following.followees(), { from: 0n as Id, before, rows })
  return { places, ended: places.length < rows }
}

async function readStoredSkeleton(
  context: Pick<Context, 'router' | 'clock'>,
  viewerId: Id,
  following: FollowingSet,
  { before, rows, retention }: Stretch & { readonly retention: Id },
): Promise<PlaceStretch> {
  const { router } = context
  const from = laterId(following.floor, retention)
  const [stored, pulled] = await Promise.all([
    readEntries(router, viewerId, { from, before, rows }),
    readPulledAuthors(context).then((authors) =>
      readAuthorRanges(router, pulledRanges(following, authors, { from, before }), rows),
    ),
  ])
  // Raised since the set was read: what is stored below is not to be relied on any more.
  const boundary = laterId(from, stored.floor)
  const above = mergeEntries([stored.entries, pulled], rows).filter(({ publishedId }) => publishedId >= boundary)
  if (above.length === rows) return { places: above, ended: false }

  const belowRows = rows - above.length
  const below = await readAuthors(router, following.followees(), {
    from: 0n as Id,
    before: before < boundary ? before : boundary,
    rows: belowRows,
  })
  return { places: [...above, ...below], ended: below.length < belowRows }
}

/** What is taken from authors above the boundary: all of those that are pending, and the pulled photos of the others. */
function pulledRanges(
  following: FollowingSet,
  authors: readonly PulledAuthor[],
  { from, before }: { readonly from: Id; readonly before: Id },
): AuthorRange[] {
  const pending = new Set(following.pending())
  const ranges = [...pending].map((authorId): AuthorRange => ({ authorId, from, before, onlyPulled: false }))
  for (const { authorId, first, last } of authors) {
    if (!following.has(authorId) || pending.has(authorId)) continue
    const end = last !== null && last < before ? ((last + 1n) as Id) : before
    ranges.push({ authorId, from: laterId(from, first), before: end, onlyPulled: true })
  }
  return ranges.filter((range) => range.from < range.before)
}

/** Stored entries from `from` to before `before`, the newest, and the account's floor of the same moment. */
async function readEntries(
  router: AppRouter,
  viewerId: Id,
  { from, before, rows }: Stretch & { readonly from: Id },
): Promise<{ readonly entries: FeedEntry[]; readonly floor: Id }> {
  if (from >= before) return { entries: [], floor: from }
  const statement = sql<{ feed_floor: Id; published_id: Id | null; photo_id: Id | null }>`
    select reader.feed_floor, e.published_id, e.photo_id from accounts as reader left join lateral (
      select published_id, photo_id from feed_entries
      where account_id = ${viewerId} and published_id < ${before} and published_id >= ${from}
      order by published_id desc limit ${rows}
    ) as e on true where reader.id = ${viewerId}`
  const answer = await router.read(shardOf(viewerId), (db) => statement.execute(db))
  return {
    entries: answer.rows.flatMap(({ published_id: publishedId, photo_id: photoId }) =>
      publishedId === null || photoId === null ? [] : [{ publishedId, photoId }],
    ),
    floor: answer.rows[0]?.feed_floor ?? from,
  }
}
