import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { photosToJson } from '#domain/photos/photos.hydration.ts'
import type { PhotoJson } from '#domain/photos/photos.presenter.ts'
import { deletePhoto, photoNotFound, updateCaption, type PhotoRow } from '#domain/photos/photos.queries.ts'
import { CAPTION_CHARACTERS_MAX, maySeePhoto, parseCaption, TAGS_MAX, type Viewer } from '#domain/photos/photos.rules.ts'
import type { ShownPhoto } from '#domain/photos/photos.splice.ts'
import { readShownPhotos } from '#domain/photos/shown-photos.ts'
import { requireViewer } from '../plugins/auth.ts'
import { readingContext, writingContext } from '../plugins/consistency.ts'
import { sendPhoto } from '../json-bytes.ts'
import { photoIdOf } from '../photo-id.ts'
import { PhotoSchema } from '../schemas/photo.schema.ts'

const PhotoParams = Type.Object({ id: Type.String() })

/** Single photos. */
export function photoRoutes(context: Context): FastifyPluginAsyncTypebox {
  const { blobs, log } = context

  return async (app) => {
    app.get(
      '/photos/:id',
      {
        schema: {
          operationId: 'getPhoto',
          tags: ['photos'],
          summary: 'Read a photo',
          params: PhotoParams,
          response: { 200: PhotoSchema },
        },
      },
      async (request, reply) => {
        const reading = readingContext(context, request)
        const photo = await readPhoto(reading, request.params.id, request.viewer)
        if ('fragment' in photo) return sendPhoto(reply, photo)
        return firstOf(await photosToJson(reading, [photo]))
      },
    )

    app.patch(
      '/photos/:id',
      {
        schema: {
          operationId: 'updatePhoto',
          tags: ['photos'],
          summary: 'Change the caption of one’s own photo',
          security: [{ bearer: [] }],
          params: PhotoParams,
          body: Type.Object(
            // Normalised and trimmed before it is measured, as an upload's is: by the domain's rule, not by the schema.
            { caption: Type.String({ description: `At most ${CAPTION_CHARACTERS_MAX} characters and ${TAGS_MAX} tags.` }) },
            { additionalProperties: false },
          ),
          response: { 200: PhotoSchema },
        },
      },
      async (request) => {
        const viewer = requireViewer(request)
        const row = await updateCaption(
          writingContext(context, request, viewer.accountId),
          viewer.accountId,
          photoIdOf(request.params.id),
          parseCaption(request.body.caption),
        )
        return firstOf(await photosToJson(context, [row]))
      },
    )

    app.delete(
      '/photos/:id',
      {
        schema: {
          operationId: 'deletePhoto',
          tags: ['photos'],
          summary: 'Delete one’s own photo',
          security: [{ bearer: [] }],
          params: PhotoParams,
          response: { 204: Type.Null() },
        },
      },
      async (request, reply) => {
        const viewer = requireViewer(request)
        const writing = writingContext(context, request, viewer.accountId)
        const row = await deletePhoto(writing, viewer.accountId, photoIdOf(request.params.id))
        // The purge does this too, and surely; here it is done at once, so that no picture outlives the answer.
        const gone = (row.renditions ?? []).map((rendition) => blobs.delete(rendition.key))
        for (const result of await Promise.allSettled(gone)) {
          if (result.status === 'rejected') log.warn({ err: result.reason as unknown }, 'a rendition was left to the purge')
        }
        return reply.code(204).send(null)
      },
    )
  }
}

/** A published photo, rendered; or the row of one that is not published but that this viewer may see. */
async function readPhoto(context: Context, text: string, viewer: Viewer | null): Promise<ShownPhoto | PhotoRow> {
  const id = photoIdOf(text)
  const others = new Map<Id, PhotoRow>()
  const [photo] = await readShownPhotos(context, [id], others)
  if (photo !== undefined) return photo
  const row = others.get(id)
  if (row === undefined || !maySeePhoto(row, viewer)) throw photoNotFound()
  return row
}

function firstOf(photos: readonly PhotoJson[]): PhotoJson {
  const [photo] = photos
  if (photo === undefined) throw photoNotFound()
  return photo
}
