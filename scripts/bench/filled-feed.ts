import { sql } from 'kysely'
import { packId, shardOf, type Id } from '#kernel/snowflake.ts'
import type { AppRouter, Db } from '#domain/database.ts'
import type { StoredRendition } from '#domain/photos/photos.table.ts'

const OTHER_FEEDS = 400
const DAY_MS = 86_400_000
const SIDES = { thumb: 150, small: 320, medium: 640, large: 1_080 } as const

/**
 * Lets `viewerId` follow `authors` new accounts with `photosEach` published photos each, all fanned out, as if
 * published over the last thirty days in turn.
 */
export async function fillFeed(
  router: AppRouter,
  viewerId: Id,
  { authors, photosEach, nowMs }: { readonly authors: number; readonly photosEach: number; readonly nowMs: number },
): Promise<void> {
  const gapMs = Math.floor((30 * DAY_MS) / (authors * photosEach))
  for (let author = 0; author < authors; author++) {
    const shard = (author * 37) % 8_192
    const accountId = packId({ ms: nowMs - 40 * DAY_MS, shard, sequence: author % 1_024 })
    const name = `author${author}`
    await router.write(shard, (trx) =>
      trx
        .insertInto('accounts')
        .values({ id: accountId, status: 'active', username: name, display_name: `Author ${author}`, email: null, feed_floor: accountId })
        .execute(),
    )
    await router.write(shardOf(viewerId), async (trx) => {
      const id = packId({ ms: nowMs, shard: shardOf(viewerId), sequence: author % 1_024 })
      await trx
        .insertInto('follows')
        .values({ follower_id: viewerId, followee_id: accountId, id, backfilled_at: new Date(nowMs) })
        .execute()
    })
    for (let index = 0; index < photosEach; index++) {
      const ms = nowMs - (index * authors + author + 1) * gapMs
      await publish(router, viewerId, accountId, packId({ ms, shard, sequence: 0 }))
    }
  }
  for (const { primary } of router.nodes) {
    await fillOthers(primary)
    await sql`vacuum analyze`.execute(primary)
  }
}

/** Lets other accounts of the same node follow whom `from` follows, and have in their feeds what it has. */
export async function copyFeed({ directory }: AppRouter, from: Id, to: readonly Id[]): Promise<void> {
  for (const [index, id] of to.entries()) {
    await sql`insert into follows (follower_id, followee_id, id, backfilled_at)
      select ${id}::bigint, followee_id, id + ${index + 1}::bigint * 1024, now()
      from follows where follower_id = ${from}`.execute(directory.primary)
    await sql`insert into feed_entries (account_id, published_id, photo_id)
      select ${id}::bigint, published_id, photo_id from feed_entries where account_id = ${from}`.execute(directory.primary)
  }
}

/** Feeds of other accounts, so that ours is found among many. */
async function fillOthers(db: Db): Promise<void> {
  await sql`insert into feed_entries (account_id, published_id, photo_id)
    select (account::bigint << 23) | 1, published_id, photo_id
    from feed_entries, generate_series(1, ${OTHER_FEEDS}::int) as account`.execute(db)
}

/** One id serves as the photo's own and as its place. */
async function publish(router: AppRouter, viewerId: Id, authorId: Id, id: Id): Promise<void> {
  await router.write(shardOf(id), (trx) =>
    trx
      .insertInto('photos')
      .values({
        id,
        account_id: authorId,
        status: 'published',
        caption: 'Morning light over the harbour, before the boats leave #harbour #morning',
        tags: ['harbour', 'morning'],
        original_key: `originals/${id}.jpg`,
        original_bytes: 3_750_000,
        media_type: 'image/jpeg',
        width: 4_000,
        height: 3_000,
        blurhash: 'LEHV6nWB2yk8pyo0adR*.7kCMdnj',
        renditions: JSON.stringify(renditions(id)),
        verdict: 'clean',
        published_id: id,
        fanned_out_at: new Date(),
      })
      .execute(),
  )
  await router.write(shardOf(viewerId), (trx) =>
    trx.insertInto('feed_entries').values({ account_id: viewerId, published_id: id, photo_id: id }).execute(),
  )
}

function renditions(id: Id): StoredRendition[] {
  return Object.entries(SIDES).map(([name, width]) => ({
    name: name as keyof typeof SIDES,
    key: `media/${id}/0123456789abcdef0123456789abcdef/${name}.jpg`,
    width,
    height: Math.round(width * 0.75),
    format: 'jpeg',
  }))
}
