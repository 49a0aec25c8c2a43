import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import { readId } from '#kernel/packed-id.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import {
  packPosition, parsePosition, POSITION_BYTES, unpackPosition, writtenPosition, type WalPosition,
} from '#platform/postgres/wal-position.ts'
import { profileKey } from '../accounts/accounts.keys.ts'
import { cachedForm, readForm, tagged, TAG_BYTES } from '../cached-form.ts'
import type { Context } from '../context.ts'
import type { AppRouter } from '../database.ts'

/** Whom an account follows and what it may expect in its stored feed: all of one moment. */
export interface FollowingSet {
  /** Names this reading: two have the same version only if one of them is a cached copy of the other. */
  readonly version: string
  /** Where the log of the account's node was when it was read; null when nobody asked. */
  readonly readAt: WalPosition | null
  /** The account's feed floor, a published_id. */
  readonly floor: Id
  /** How many it follows. */
  readonly size: number
  has(accountId: Id): boolean
  /** All of them, in the order of their ids. */
  followees(): Id[]
  /** Those among them whose photos are not yet in the stored feed. */
  pending(): Id[]
}

/*
 * tag (4) | version (8) | read at, packed (20) | floor (8) | number of followees (4) | followees (8 each), ascending |
 * pending (8 each)
 */
const FORM = cachedForm('following 2')
const VERSION_AT = TAG_BYTES
const VERSION_BYTES = 8
const READ_AT = VERSION_AT + VERSION_BYTES
const FLOOR_AT = READ_AT + POSITION_BYTES
const SIZE_AT = FLOOR_AT + 8
const IDS_AT = SIZE_AT + 4
const ID_BYTES = 8

function followingKey(accountId: Id): string {
  return `following:${accountId}`
}

/** Keys made stale by the beginning or end of a follow: the follower's set, and the counts of both. */
export function keysOfFollowChange(followerId: Id, followeeId: Id): string[] {
  return [followingKey(followerId), profileKey(followerId), profileKey(followeeId)]
}

/** Keys made stale when a follow is backfilled, or the account's floor is moved. */
export function keysOfFeedChange(accountId: Id): string[] {
  return [followingKey(accountId)]
}

/** The account's following set; undefined when there is no such account. */
export async function readFollowing(
  context: Pick<Context, 'router' | 'cache'>,
  accountId: Id,
): Promise<FollowingSet | undefined> {
  const packed = await readForm(context, FORM, followingKey(accountId), (router) =>
    packFollowing(router, accountId, context.cache.isEnabled),
  )
  return packed && unpackFollowing(packed)
}

interface PackedRow {
  readonly feed_floor: Id
  readonly size: number
  readonly followees: Buffer | null
  readonly pending: Buffer | null
  readonly read_at: string | null
}

/**
 * PostgreSQL packs the ids, as decoding thousands of bigints costs more than reading them.
 * @param isKept true for a set that is to be kept, which is read from a primary
 */
async function packFollowing(router: AppRouter, accountId: Id, isKept: boolean): Promise<Buffer | null> {
  const readAt = isKept && router.hasReplicas ? writtenPosition : sql<null>`null`
  const statement = sql<PackedRow>`
    select reader.feed_floor, set.*, ${readAt} as read_at from accounts as reader
    cross join lateral (
      select count(*)::int as size,
        string_agg(int8send(followee_id), ''::bytea order by followee_id) as followees,
        string_agg(int8send(followee_id), ''::bytea order by followee_id) filter (where backfilled_at is null) as pending
      from follows where follower_id = reader.id
    ) as set where reader.id = ${accountId}`
  const { rows } = await router.read(shardOf(accountId), (db) => statement.execute(db))
  const [row] = rows
  if (row === undefined) return null
  const head = Buffer.allocUnsafe(IDS_AT - TAG_BYTES)
  randomBytes(VERSION_BYTES).copy(head)
  packPosition(row.read_at === null ? null : parsePosition(row.read_at)).copy(head, READ_AT - TAG_BYTES)
  head.writeBigUInt64BE(row.feed_floor, FLOOR_AT - TAG_BYTES)
  head.writeUInt32BE(row.size, SIZE_AT - TAG_BYTES)
  return tagged(FORM, head, row.followees ?? Buffer.alloc(0), row.pending ?? Buffer.alloc(0))
}

function unpackFollowing(packed: Buffer): FollowingSet {
  const size = packed.readUInt32BE(SIZE_AT)
  const pendingAt = IDS_AT + size * ID_BYTES
  const idAt = (at: number): Id => readId(packed, at)
  const idsFrom = (start: number, end: number): Id[] =>
    Array.from({ length: (end - start) / ID_BYTES }, (_, index) => idAt(start + index * ID_BYTES))
  return {
    version: packed.toString('hex', VERSION_AT, READ_AT),
    readAt: unpackPosition(packed, READ_AT),
    floor: idAt(FLOOR_AT),
    size,
    has(accountId) {
      let low = 0
      let high = size
      while (low < high) {
        const middle = (low + high) >> 1
        if (idAt(IDS_AT + middle * ID_BYTES) < accountId) low = middle + 1
        else high = middle
      }
      return low < size && idAt(IDS_AT + low * ID_BYTES) === accountId
    },
    followees: () => idsFrom(IDS_AT, pendingAt),
    pending: () => idsFrom(pendingAt, packed.length),
  }
}
