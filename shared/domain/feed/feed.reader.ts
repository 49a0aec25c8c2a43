import { MAX_ID, type Id } from '#kernel/snowflake.ts'
import type { Clock } from '#kernel/clock.ts'
import type { AppRouter } from '../database.ts'
import { findPhotos, type PhotoRow } from '../photos/photos.queries.ts'
import { isShown, retentionFloor } from './feed.rules.ts'
import { readAuthorsSkeleton, readFollowed, readStoredSkeleton, type Skeleton } from './feed.skeleton.ts'

/**
 * Rounds that read stored entries; each is wider than the one before. Whoever has unfollowed a busy author has
 * many entries that no longer count: after these rounds the authors' own photos, which all do, fill the page.
 */
const STORED_ROUNDS_MAX = 2
const WIDENING = 4
/** Only photos that vanish while we read can make a page need so many; it is then short, and goes on. */
const ROUNDS_MAX = 8

export interface FeedContext {
  readonly router: AppRouter
  readonly clock: Clock
}

/** One page of a feed. */
export interface FeedPage {
  /** Newest publication first. */
  readonly photos: readonly PhotoRow[]
  /** The place (a published_id) after which the next page begins; null when nothing follows. */
  readonly next: Id | null
}

/**
 * A page of the home feed of `viewerId`: the published photos of the accounts it follows now, newest publication
 * first, to the very end of all their photos. Full unless the feed ends.
 *
 * Four steps as in bsky's pipeline: skeleton → hydration → rules → presentation; rounds of the first three until
 * enough is shown.
 *
 * @param page.before the place after which to begin, a published_id; null for the top
 * @param page.limit photos on a page, 1 to 100
 */
export async function readFeed(
  context: FeedContext,
  viewerId: Id,
  page: { readonly before: Id | null; readonly limit: number },
): Promise<FeedPage> {
  // One more than the page holds tells whether another page follows.
  const wanted = page.limit + 1
  const shown: PhotoRow[] = []
  let before = page.before ?? MAX_ID
  let ended = false
  for (let round = 0; round < ROUNDS_MAX && shown.length < wanted && !ended; round++) {
    const skeleton = await readSkeleton(context, viewerId, before, round, wanted - shown.length)
    const photos = await hydrate(context, skeleton)
    shown.push(...(await applyRules(context, viewerId, skeleton, photos)))
    before = skeleton.entries.at(-1)?.publishedId ?? before
    ended = skeleton.ended
  }
  return present(shown, page.limit, ended ? null : before)
}

async function readSkeleton(
  { router, clock }: FeedContext,
  viewerId: Id,
  before: Id,
  round: number,
  missing: number,
): Promise<Skeleton> {
  if (round >= STORED_ROUNDS_MAX) return readAuthorsSkeleton(router, viewerId, { before, rows: missing })
  const rows = missing * WIDENING ** round
  return readStoredSkeleton(router, viewerId, retentionFloor(clock.nowMs()), { before, rows })
}

async function hydrate({ router }: FeedContext, { entries }: Skeleton): Promise<Map<Id, PhotoRow>> {
  return findPhotos(
    router,
    entries.map((entry) => entry.photoId),
  )
}

async function applyRules(
  { router }: FeedContext,
  viewerId: Id,
  { entries, basis }: Skeleton,
  photos: ReadonlyMap<Id, PhotoRow>,
): Promise<PhotoRow[]> {
  const authors = new Set([...photos.values()].map((photo) => photo.account_id))
  const followed = await readFollowed(router, viewerId, [...authors], basis)
  return entries.flatMap((entry) => {
    const photo = photos.get(entry.photoId)
    return photo !== undefined && isShown(entry, photo, followed) ? [photo] : []
  })
}

/** @param goesOnAt where to go on if the page did not become full before the rounds were over */
function present(shown: readonly PhotoRow[], limit: number, goesOnAt: Id | null): FeedPage {
  const photos = shown.slice(0, limit)
  const more = shown.length > limit
  return { photos, next: more ? (photos.at(-1)?.published_id ?? null) : goesOnAt }
}
