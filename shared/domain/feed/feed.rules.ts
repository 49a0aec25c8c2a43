import { EPOCH_MS, firstIdAt, type Id } from '#kernel/snowflake.ts'
import type { PhotoPlace } from '../photos/photo-places.ts'

/** Days for which a feed is read from stored entries; older pages come from the authors' own photos. */
export const FEED_RETENTION_DAYS = 90
/** Days for which entries are written: the reader's clock and the writers' may differ, and entries must not be short. */
export const FEED_STORED_DAYS = FEED_RETENTION_DAYS + 1
/** Days after which a partition may go: no writer's clock, however slow, still writes there. */
export const FEED_KEPT_DAYS = FEED_STORED_DAYS + 1

const DAY_MS = 86_400_000

/** A place in a feed. */
export type FeedEntry = PhotoPlace

/** The published_id below which a reader does not rely on stored entries, at `nowMs` (Unix milliseconds). */
export function retentionFloor(nowMs: number): Id {
  return idDaysBefore(nowMs, FEED_RETENTION_DAYS)
}

/** The published_id below which a writer stores no entries: a day under the reader's floor. */
export function storageFloor(nowMs: number): Id {
  return idDaysBefore(nowMs, FEED_STORED_DAYS)
}

/** The published_id below which partitions are dropped: a day under the writers' floor. */
export function partitionFloor(nowMs: number): Id {
  return idDaysBefore(nowMs, FEED_KEPT_DAYS)
}

/**
 * How far beyond the present a floor is raised. Whatever a fan-out brought past a feed before the raise was committed
 * must lie below: so it is longer than any transaction lasts, and than clocks differ.
 */
const FLOOR_AHEAD_MS = 10 * 60_000

/** The floor of a feed that lacks what was published until `nowMs`: ahead of it, by the margin that safety wants. */
export function raisedFloor(nowMs: number): Id {
  return firstIdAt(Math.max(EPOCH_MS, Math.floor(nowMs) + FLOOR_AHEAD_MS))
}

/** Longer than a shard is copied for; then its arrival has no floor to raise. */
const COPY_AHEAD_MS = DAY_MS
/** Nobody but a copy raises a floor so far ahead. */
const ARRIVED_AHEAD_MS = 60 * 60_000

/** The floor that the feeds of a shard get as their accounts are copied to another node: ahead of their arrival, too. */
export function copiedFloor(nowMs: number): Id {
  return raisedFloor(nowMs + COPY_AHEAD_MS)
}

/** Feeds that arrive with a floor from here on have one that was raised by their copy, and is enough. */
export function arrivedFloor(nowMs: number): Id {
  return raisedFloor(nowMs + ARRIVED_AHEAD_MS)
}

function idDaysBefore(nowMs: number, days: number): Id {
  return firstIdAt(Math.max(EPOCH_MS, Math.floor(nowMs) - days * DAY_MS))
}

/** The greater of two ids. */
export function laterId(a: Id, b: Id): Id {
  return a > b ? a : b
}

/**
 * Merges lists of entries into one, newest first, without doubles, at most `limit` long. Each list must hold the
 * newest entries of its source, `limit` of them or all: then so does the result.
 */
export function mergeEntries(lists: readonly (readonly FeedEntry[])[], limit: number): FeedEntry[] {
  const byPlace = new Map(lists.flat().map((entry) => [entry.publishedId, entry]))
  return [...byPlace.values()]
    .sort((a, b) => (a.publishedId > b.publishedId ? -1 : a.publishedId < b.publishedId ? 1 : 0))
    .slice(0, limit)
}

/** What the rules look at in a published photo. */
interface JudgedPhoto {
  readonly accountId: Id
  readonly publishedId: Id
}

/**
 * True when an entry may be shown: its photo is published, and at this very place (it may have been taken back and
 * published anew), and its author is followed.
 *
 * @param photo the published photo; undefined when there is none
 */
export function isShown(
  entry: FeedEntry,
  photo: JudgedPhoto | undefined,
  followed: { has(accountId: Id): boolean },
): boolean {
  return photo !== undefined && photo.publishedId === entry.publishedId && followed.has(photo.accountId)
}
