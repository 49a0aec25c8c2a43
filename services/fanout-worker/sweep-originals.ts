import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { findPhotos } from '#domain/photos/photos.queries.ts'
import { ORIGINALS_PREFIX, photoIdOfOriginal } from '#domain/photos/photos.rules.ts'
import type { ListedBlob } from '#platform/blob-store/blob-store.ts'

/** No upload takes so long from its blob to its row. */
export const STRAY_ORIGINAL_AGE_MS = 24 * 60 * 60_000
const SWEEP_BLOBS = 500

type SweepContext = Pick<Context, 'router' | 'blobs' | 'clock' | 'log'>

/**
 * Removes originals that no photo owns: of uploads whose process died, or that lost their database, between the blob and
 * the row. Each run looks at a part of the store and the next one goes on behind it, from the start again at the end.
 *
 * @returns a function that does one part; it says whether there is more
 */
export function originalsSweeper(context: SweepContext, batch = SWEEP_BLOBS): () => Promise<boolean> {
  const { blobs, clock, log } = context
  let after: string | undefined
  return async () => {
    const page = await blobs.list(ORIGINALS_PREFIX, { limit: batch, ...(after !== undefined && { after }) })
    const old = page.filter(({ storedAtMs }) => storedAtMs < clock.nowMs() - STRAY_ORIGINAL_AGE_MS)
    let removed = 0
    for (const { key, photoId } of await withoutPhoto(context, old)) {
      if (await isOwned(context, key, photoId)) continue
      await blobs.delete(key)
      removed++
    }
    if (removed > 0) log.warn({ removed }, 'originals without a photo were removed')
    after = page.length < batch ? undefined : page.at(-1)?.key
    return after !== undefined
  }
}

interface Original {
  readonly key: string
  readonly photoId: Id
}

/** Those that the photo of their key does not name, as far as a look past the door can tell. */
async function withoutPhoto({ router }: SweepContext, listed: readonly ListedBlob[]): Promise<Original[]> {
  const originals = listed.flatMap(({ key }): Original[] => {
    const photoId = photoIdOfOriginal(key)
    return photoId === undefined ? [] : [{ key, photoId }]
  })
  const photos = await findPhotos(router, [...new Set(originals.map(({ photoId }) => photoId))])
  return originals.filter(({ key, photoId }) => photos.get(photoId)?.original_key !== key)
}

/** Looks again through the door, which knows of a shard that has moved: a picture is not deleted on a stale map's word. */
async function isOwned({ router }: SweepContext, key: string, photoId: Id): Promise<boolean> {
  return router.write(shardOf(photoId), async (trx) => {
    const found = await trx.selectFrom('photos').select('id').where('id', '=', photoId).where('original_key', '=', key).execute()
    return found.length > 0
  })
}
