import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { photoUploaded } from '#domain/photos/photos.events.ts'
import { PROCESSING_FAILED, recordVerdict } from '#domain/photos/photos.gate.ts'
import { findPhoto } from '#domain/photos/photos.queries.ts'
import { bringFact, failPhoto, readOriginal } from '#domain/photos/photos.work.ts'
import { UndecodableImageError } from '#platform/images/undecodable-image-error.ts'
import type { Handler } from '#platform/outbox/transport.ts'
import type { Screen } from './screen.ts'
import { screenPicture, type Screening } from './screen-picture.ts'

/**
 * photo.uploaded → a verdict at the gate. A screen that cannot tell makes the job fail and come back: a photo is
 * never waved through.
 */
export function screenPhoto(context: Context, screens: readonly Screen[]): Handler<typeof photoUploaded.schema> {
  return {
    event: photoUploaded,
    async handle({ photoId: text }, job) {
      const photoId = BigInt(text) as Id
      const photo = await findPhoto(context.router, photoId)
      if (photo === undefined || photo.status === 'deleted' || photo.verdict !== null) return

      const screening = await screenOrFail(context, photoId, await readOriginal(context, photo), screens)
      if (screening === undefined) return
      job.signal.throwIfAborted()
      const status = await bringFact(context, photo, (trx, publishedId) =>
        recordVerdict(trx, photoId, screening, publishedId),
      )
      job.log.info({ photoId: text, verdict: screening.verdict, status }, 'photo screened')
    },
    exhausted: ({ photoId }) => failPhoto(context, BigInt(photoId) as Id, PROCESSING_FAILED),
  }
}

async function screenOrFail(
  context: Context,
  photoId: Id,
  original: Buffer,
  screens: readonly Screen[],
): Promise<Screening | undefined> {
  try {
    return await screenPicture(original, screens)
  } catch (error) {
    if (!(error instanceof UndecodableImageError)) throw error
    await failPhoto(context, photoId, { code: error.code, detail: error.detail })
    return undefined
  }
}
