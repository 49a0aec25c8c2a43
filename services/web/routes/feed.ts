import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { readFeed } from '#domain/feed/feed.reader.ts'
import { photosToJson } from '#domain/photos/photos.hydration.ts'
import { ListOf, PageQuery, readPage, sendPage } from '../pagination.ts'
import { requireViewer } from '../plugins/auth.ts'
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
        const { photos, next } = await readFeed(context, viewer.accountId, readPage(LIST, request.query))
        const items = await photosToJson(context, photos)
        return sendPage(reply, { kind: LIST, items, next, base: context.config.http.publicUrl ?? '' })
      },
    )
  }
}
