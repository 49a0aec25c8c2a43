import { MAX_ID, type Id } from '#kernel/snowflake.ts'
import type { Context } from '../context.ts'
import { readFollowing, type FollowingSet } from '../follows/following.cache.ts'
import type { PlaceStretch } from '../photos/photo-places.ts'
import type { ShownPhoto } from '../photos/photos.splice.ts'
import { readShownPhotos } from '../photos/shown-photos.ts'
import { isShown, retentionFloor } from './feed.rules.ts'
import { readAuthorsSkeleton, readSkeleton } from './feed.skeleton.ts'

/**
 * Rounds that read stored entries; each is wider than the one before. Whoever has unfollowed a busy author has
 * many entries that no longer count: after these rounds the authors' own photos, which all do, fill the page.
 */
const STORED_ROUNDS_MAX = 2
const WIDENING = 4
/** Only photos that vanish while we read can make a page need so many; it is then short, and goes on. */
const ROUNDS_MAX = 8

export type FeedContext = Pick<Context, 'router' | 'cache' | 'config' | 'clock'>

/** One page of a feed. */
export interface FeedPage {
  /** Newest publication first. */
  readonly photos: readonly ShownPhoto[]
  /** The place (a published_id) after which the next page begins; null when nothing follows. */
  readonly next: Id | null
}

/**
 * A page of the home feed of `viewerId`: the published photos of the accounts it follows now, newest publication
 * first, to the very end of all their photos. Full unless the feed ends.
 *
 * Four steps as in bsky's pipeline: skeleton → hydration → rules → presentation; rounds of the first three until
 * enough is shown. All rounds are of one following set, read before everything else: see `feed.skeleton.ts`.
 *
 * @param page.before the place after which to begin, a published_id; null for the top
 * @param page.limit photos on a page, 1 to 100
 */
export async function readFeed(
  context: FeedContext,
  viewerId: Id,
  page: { readonly before: Id | null; readonly limit: number },
): Promise<FeedPage> {
  const following = await readFollowing(context, viewerId)
  if (following === undefined || following.size === 0) return { photos: [], next: null }
  // One more than the page holds tells whether another page follows.
  const wanted = page.limit + 1
  const shown: ShownPhoto[] = []
  let before = page.before ?? MAX_ID
  let ended = false
  for (let round = 0; round < ROUNDS_MAX && shown.length < wanted && !ended; round++) {
    const skeleton = await readRound(context, viewerId, following, { before, round, missing: wanted - shown.length })
    shown.push(...applyRules(skeleton, following, await hydrate(context, skeleton)))
    before = skeleton.places.at(-1)?.publishedId ?? before
    ended = skeleton.ended
  }
  return present(shown, page.limit, ended ? null : before)
}

async function readRound(
  context: FeedContext,
  viewerId: Id,
  following: FollowingSet,
  { before, round, missing }: { readonly before: Id; readonly round: number; readonly missing: number },
): Promise<PlaceStretch> {
  if (round >= STORED_ROUNDS_MAX) return readAuthorsSkeleton(context.router, following, { before, rows: missing })
  const retention = retentionFloor(context.clock.nowMs())
  return readSkeleton(context, viewerId, following, { before, rows: missing * WIDENING ** round, retention })
}

function hydrate(context: FeedContext, { places }: PlaceStretch): Promise<(ShownPhoto | undefined)[]> {
  return readShownPhotos(
    context,
    places.map((place) => place.photoId),
  )
}

/** @param photos in the order of the places */
function applyRules(
  { places }: PlaceStretch,
  following: FollowingSet,
  photos: readonly (ShownPhoto | undefined)[],
): ShownPhoto[] {
  const shown: ShownPhoto[] = []
  for (const [at, place] of places.entries()) {
    const photo = photos[at]
    if (photo !== undefined && isShown(place, photo.fragment, following)) shown.push(photo)
  }
  return shown
}

/** @param goesOnAt where to go on if the page did not become full before the rounds were over */
function present(shown: readonly ShownPhoto[], limit: number, goesOnAt: Id | null): FeedPage {
  const photos = shown.slice(0, limit)
  const more = shown.length > limit
  return { photos, next: more ? (photos.at(-1)?.fragment.publishedId ?? null) : goesOnAt }
}
