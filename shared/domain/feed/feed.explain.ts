import { shardOf, type Id } from '#kernel/snowflake.ts'
import { noCache } from '#platform/memcached/cache.ts'
import { findAccount } from '../accounts/accounts.queries.ts'
import type { Viewer } from '../accounts/authenticate.ts'
import { findPhoto, type PhotoRow } from '../photos/photos.queries.ts'
import { maySeePhoto } from '../photos/photos.rules.ts'
import { readFeed, type FeedContext } from './feed.reader.ts'
import { laterId, retentionFloor } from './feed.rules.ts'

export const FEED_RULES = [
  'published', 'author_active', 'not_own', 'followed', 'reader_active', 'above_floor', 'pulled', 'backfill_pending',
  'entry_stored', 'fanned_out',
] as const

/** One thing that decides about a photo and a feed: whether it is so, and what that means. */
export interface FeedRule {
  readonly name: (typeof FEED_RULES)[number]
  readonly holds: boolean
  readonly detail: string
}

/** Why a photo is, or is not, in a feed. */
export interface FeedExplanation {
  readonly inFeed: boolean
  /** One sentence. */
  readonly reason: string
  readonly rules: readonly FeedRule[]
}

/**
 * Explains a photo's place in an account's feed. Whether it is there is found out by reading the feed itself, without the
 * cache; the rules say why.
 *
 * @returns undefined when there is no such account or photo, or when `viewer` may not know
 */
export async function explainFeed(
  context: FeedContext,
  viewer: Viewer,
  { accountId, photoId }: { readonly accountId: Id; readonly photoId: Id },
): Promise<FeedExplanation | undefined> {
  if (viewer.role !== 'moderator' && viewer.accountId !== accountId) return undefined
  const [reader, photo] = await Promise.all([findAccount(context.router, accountId), findPhoto(context.router, photoId)])
  if (reader === undefined || photo === undefined || !maySeePhoto(photo, viewer)) return undefined
  const facts = await readFacts(context, accountId, photo)
  const [inFeed, isAuthorActive] = await Promise.all([
    isShownInFeed(context, accountId, photo),
    findAccount(context.router, photo.account_id).then((author) => author !== undefined),
  ])
  const boundary = laterId(facts.feedFloor, retentionFloor(context.clock.nowMs()))
  const rules = judge(photo, { ...facts, accountId, isAuthorActive, boundary })
  return { inFeed, reason: reasonOf(inFeed, rules), rules }
}

interface Facts {
  readonly feedFloor: Id
  readonly isDormant: boolean
  /** Null: not followed. */
  readonly follow: { readonly isBackfilled: boolean } | null
  readonly isStored: boolean
}

async function readFacts({ router }: FeedContext, accountId: Id, photo: PhotoRow): Promise<Facts> {
  const row = await router.read(shardOf(accountId), (db) =>
    db
      .selectFrom('accounts as a')
      .leftJoin('follows as f', (on) => on.onRef('f.follower_id', '=', 'a.id').on('f.followee_id', '=', photo.account_id))
      .leftJoin('feed_entries as e', (on) => on.onRef('e.account_id', '=', 'a.id').on('e.published_id', '=', photo.published_id))
      .select(['a.feed_floor', 'a.dormant', 'f.id as follow_id', 'f.backfilled_at', 'e.photo_id'])
      .where('a.id', '=', accountId)
      .executeTakeFirstOrThrow(),
  )
  return {
    feedFloor: row.feed_floor,
    isDormant: row.dormant,
    follow: row.follow_id === null ? null : { isBackfilled: row.backfilled_at !== null },
    isStored: row.photo_id === photo.id,
  }
}

async function isShownInFeed(context: FeedContext, accountId: Id, photo: PhotoRow): Promise<boolean> {
  if (photo.published_id === null) return false
  const from = { before: (photo.published_id + 1n) as Id, limit: 1 }
  const page = await readFeed({ ...context, cache: noCache }, accountId, from)
  return page.photos.some(({ fragment }) => fragment.id === photo.id)
}

interface JudgedFacts extends Facts {
  readonly accountId: Id
  readonly isAuthorActive: boolean
  readonly boundary: Id
}

function judge(photo: PhotoRow, facts: JudgedFacts): FeedRule[] {
  const rule = (name: FeedRule['name'], holds: boolean, so: string, notSo: string): FeedRule => ({
    name,
    holds,
    detail: holds ? so : notSo,
  })
  const { follow } = facts
  return [
    rule('published', photo.status === 'published', 'the photo is published', `the photo is ${photo.status}, not published`),
    rule('author_active', facts.isAuthorActive, 'the author has an account', 'the author’s account is gone'),
    rule('not_own', photo.account_id !== facts.accountId, 'somebody else took the photo', 'accounts do not see their own photos in their feeds'),
    rule('followed', follow !== null, 'the account follows the author', 'the account does not follow the author'),
    rule('reader_active', !facts.isDormant, 'the account is in use', 'nobody has used the account for a month, so fan-outs pass it over until it comes back'),
    rule('above_floor', (photo.published_id ?? 0n) >= facts.boundary, 'the photo is new enough for the stored part of the feed', 'the photo is older than the stored part of the feed, where photos are read from their authors'),
    rule('pulled', photo.pull, 'the author has so many followers that the photo is read from the author', 'readers need not fetch the photo from the author'),
    rule('backfill_pending', follow !== null && !follow.isBackfilled, 'the follow is new, so the author’s photos are read from the author', 'no backfill is waiting'),
    rule('entry_stored', facts.isStored, 'the photo is stored in the feed', 'the photo is not stored in the feed'),
    rule('fanned_out', photo.fanned_out_at !== null, 'the fan-out of the photo is done', 'the fan-out of the photo is not done yet'),
  ]
}

type Told = readonly (readonly [name: FeedRule['name'], holds: boolean])[]

/** Where a photo is read from that is in the feed, and why one is not: the first that applies is told. */
const SOURCES: Told = [['above_floor', false], ['backfill_pending', true], ['pulled', true], ['entry_stored', true]]
const OBSTACLES: Told = [
  ['published', false], ['author_active', false], ['not_own', false], ['followed', false], ['reader_active', false],
  ['fanned_out', false],
]

function reasonOf(inFeed: boolean, rules: readonly FeedRule[]): string {
  const told = (inFeed ? SOURCES : OBSTACLES)
    .map(([name, holds]) => rules.find((rule) => rule.name === name && rule.holds === holds))
    .find((rule) => rule !== undefined)
  const beginning = inFeed ? 'It is in the feed' : 'It is not in the feed'
  return `${beginning}: ${told?.detail ?? 'its entry is not stored, though its fan-out is done'}.`
}
