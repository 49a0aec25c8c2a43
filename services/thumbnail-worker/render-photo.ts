import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { photoUploaded } from '#domain/photos/photos.events.ts'
import { PROCESSING_FAILED, recordRenditions } from '#domain/photos/photos.gate.ts'
import { findPhoto } from '#domain/photos/photos.queries.ts'
import { renditionFolder } from '#domain/photos/photos.rules.ts'
import type { StoredRendition } from '#domain/photos/photos.table.ts'
import { bringFact, failPhoto, readOriginal } from '#domain/photos/photos.work.ts'
import { UndecodableImageError } from '#platform/images/undecodable-image-error.ts'
import type { Handler } from '#platform/outbox/transport.ts'
import { dropRenditionsIfGone } from './drop-renditions.ts'
import { renderRenditions, type Rendered } from './render-renditions.ts'

const FORMATS = {
  jpeg: { extension: 'jpg', contentType: 'image/jpeg' },
  webp: { extension: 'webp', contentType: 'image/webp' },
} as const

/**
 * photo.uploaded → renditions in the blob store, and their fact at the gate. The keys are the same at every
 * delivery, so a repeated job writes the same bytes to the same places.
 */
export function renderPhoto(context: Context): Handler<typeof photoUploaded.schema> {
  return {
    event: photoUploaded,
    async handle({ photoId: text }, job) {
      const photoId = BigInt(text) as Id
      const photo = await findPhoto(context.router, photoId)
      if (photo === undefined || photo.status === 'deleted') {
        await dropRenditionsIfGone(context, photoId)
        return
      }
      if (photo.renditions !== null) return

      const rendered = await renderOrFail(context, photoId, await readOriginal(context, photo))
      if (rendered === undefined) return
      job.signal.throwIfAborted()
      const renditions = await storeRenditions(context, photoId, rendered)
      const status = await bringFact(context, photo, (trx, publishedId) =>
        recordRenditions(trx, photoId, { ...rendered, renditions }, publishedId),
      )
      if (status === null) await dropRenditionsIfGone(context, photoId)
      job.log.info({ photoId: text, status }, 'renditions made')
    },
    exhausted: ({ photoId }) => failPhoto(context, BigInt(photoId) as Id, PROCESSING_FAILED),
  }
}

async function renderOrFail(context: Context, photoId: Id, original: Buffer): Promise<Rendered | undefined> {
  try {
    return await renderRenditions(original)
  } catch (error) {
    if (!(error instanceof UndecodableImageError)) throw error
    await failPhoto(context, photoId, { code: error.code, detail: error.detail })
    return undefined
  }
}

async function storeRenditions(context: Context, photoId: Id, rendered: Rendered): Promise<StoredRendition[]> {
  const folder = renditionFolder(context.config.secretKey, photoId)
  return Promise.all(
    rendered.renditions.map(async ({ bytes, ...rendition }) => {
      const { extension, contentType } = FORMATS[rendition.format]
      const key = `${folder}${rendition.name}.${extension}`
      await context.blobs.put(key, bytes, { contentType })
      return { ...rendition, key }
    }),
  )
}
