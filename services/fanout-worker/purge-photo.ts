import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import type { Db } from '#domain/database.ts'
import { dropFanoutCursor, removeEntriesPage } from '#domain/feed/feed.writes.ts'
import { photoDeleted } from '#domain/photos/photos.events.ts'
import { findPhoto, type PhotoRow } from '#domain/photos/photos.queries.ts'
import { originalsFolder, renditionFolder } from '#domain/photos/photos.rules.ts'
import type { Handler } from '#platform/outbox/transport.ts'
import { eachNode } from './each-node.ts'

const PURGE_PAGE_ROWS = 5_000

type PurgeContext = Pick<Context, 'router' | 'blobs' | 'config'>

/**
 * photo.deleted → its blobs, its feed entries and at last its row are gone. The row goes last, as it is what a
 * repeated delivery works from.
 */
export function purgePhoto(context: PurgeContext): Handler<typeof photoDeleted.schema> {
  const { router } = context
  return {
    event: photoDeleted,
    async handle({ photoId: text }, job) {
      const photoId = BigInt(text) as Id
      const photo = await findPhoto(router, photoId)
      if (photo?.status !== 'deleted') return
      await removeBlobs(context, photo)
      const { account_id: authorId, published_id: publishedId } = photo
      // First the cursor: a fan-out that is still under way ends with its present page.
      await eachNode(router, (db) => dropFanoutCursor(db, photoId))
      if (publishedId !== null) {
        await eachNode(router, (db) => removeEntries(db, authorId, publishedId, job.signal))
      }
      await router.write(shardOf(photoId), (trx) =>
        trx.deleteFrom('photos').where('id', '=', photoId).where('status', '=', 'deleted').execute(),
      )
    },
  }
}

/**
 * The folders cover what an upload or a worker stored and did not live to record; the row, what was named under an
 * older key.
 */
async function removeBlobs({ blobs, config }: PurgeContext, photo: PhotoRow): Promise<void> {
  await blobs.delete(photo.original_key)
  await blobs.deletePrefix(originalsFolder(photo.id))
  await Promise.all((photo.renditions ?? []).map(({ key }) => blobs.delete(key)))
  await blobs.deletePrefix(renditionFolder(config.secretKey, photo.id))
}

async function removeEntries(db: Db, authorId: Id, publishedId: Id, signal: AbortSignal): Promise<void> {
  let after: Id | null = 0n as Id
  while (after !== null) {
    signal.throwIfAborted()
    const page = await removeEntriesPage(db, authorId, publishedId, { after, rows: PURGE_PAGE_ROWS })
    after = page.followers === PURGE_PAGE_ROWS ? page.last : null
  }
}
