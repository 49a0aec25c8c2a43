import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { problem } from '#kernel/errors.ts'
import type { Context } from '#domain/context.ts'
import { CAPTION_CHARACTERS_MAX, TAGS_MAX } from '#domain/photos/photos.rules.ts'
import { acceptUpload } from '../accept-upload.ts'
import { IdempotencyHeaders, readIdempotencyKey } from '../idempotency-key.ts'
import { requireViewer } from '../plugins/auth.ts'
import { writingContext } from '../plugins/consistency.ts'
import { PhotoSchema } from '../schemas/photo.schema.ts'

/** For the description only: a form is checked as it streams by. */
const UploadForm = Type.Object({
  file: Type.String({ format: 'binary' }),
  caption: Type.Optional(Type.String({ description: `At most ${CAPTION_CHARACTERS_MAX} characters and ${TAGS_MAX} tags.` })),
})

/** Uploads. They need @fastify/multipart, whose hooks would burden every other route that stands beside this one. */
export function uploadRoutes(context: Context): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/photos',
      {
        validatorCompiler: () => () => true,
        schema: {
          operationId: 'uploadPhoto',
          tags: ['photos'],
          summary: 'Upload a photo',
          description:
            'A multipart form with the picture as `file` (JPEG, PNG, WebP or AVIF, at most 20 MB and 50 megapixels) ' +
            'and optionally `caption`. The photo is `processing` at first; read it again to see what became of it.',
          consumes: ['multipart/form-data'],
          headers: IdempotencyHeaders,
          body: UploadForm,
          security: [{ bearer: [] }],
          response: { 202: PhotoSchema },
        },
      },
      async (request, reply) => {
        const viewer = requireViewer(request)
        const key = readIdempotencyKey(request.headers['idempotency-key'])
        const photo = await acceptUpload(writingContext(context, request, viewer.accountId), {
          accountId: viewer.accountId,
          key,
          parts: () => readParts(request),
        })
        return reply.code(202).header('location', `/v1/photos/${photo.id}`).send(photo)
      },
    )
  }
}

function readParts(request: FastifyRequest): ReturnType<FastifyRequest['parts']> {
  if (request.isMultipart()) return request.parts()
  if (request.headers['content-type'] === undefined) {
    throw problem('invalid_request', 'The body must be a multipart form with the picture as its part `file`.', {
      errors: [{ path: '/body/file', code: 'required', message: 'is required: the picture, as a file part' }],
    })
  }
  throw problem('unsupported_media_type', 'The body must be multipart/form-data with the picture as its part `file`.')
}
