import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { readFeed } from '#domain/feed/feed.reader.ts'
import { sendPhotoPage } from '../json-bytes.ts'
import { ListOf, PageQuery, readPage } from '../pagination.ts'
import { requireViewer } from '../plugins/auth.ts'
import { readingContext } from '../plugins/consistency.ts'
import { PhotoSchema } from '../schemas/photo.schema.ts'
import type { WebContext } from '../web-context.ts'

const LIST = 'feed'

/** The home feed. */
export function feedRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/feed',
      {
        schema: {
          operationId: 'getFeed',
          tags: ['feed'],
          summary: 'Photos of the accounts one follows, newest publication first',
          security: [{ bearer: [] }],
          querystring: PageQuery,
          response: { 200: ListOf(PhotoSchema) },
        },
      },
      async (request, reply) => {
        const viewer = requireViewer(request)
        const { photos, next } = await readFeed(readingContext(context, request), viewer.accountId, readPage(LIST, request.query))
        return sendPhotoPage(reply, { kind: LIST, photos, next, base: context.config.http.publicUrl ?? '' })
      },
    )
  }
}
