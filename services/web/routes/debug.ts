import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { problem } from '#kernel/errors.ts'
import { parseId } from '#kernel/snowflake.ts'
import { explainFeed, FEED_RULES } from '#domain/feed/feed.explain.ts'
import { requireViewer } from '../plugins/auth.ts'
import type { WebContext } from '../web-context.ts'

const FeedExplanation = Type.Object({
  inFeed: Type.Boolean({ description: 'What the feed says itself.' }),
  reason: Type.String({ description: 'One sentence for people.' }),
  rules: Type.Array(
    Type.Object({
      name: Type.Enum([...FEED_RULES]),
      holds: Type.Boolean(),
      detail: Type.String({ description: 'What that means.' }),
    }),
  ),
})

/** Answers to the question why something is as it is. */
export function debugRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/debug/feed-explain',
      {
        schema: {
          operationId: 'explainFeed',
          tags: ['debug'],
          summary: 'Why a photo is, or is not, in a feed: for its reader and for moderators',
          security: [{ bearer: [] }],
          querystring: Type.Object({
            account: Type.String({ description: 'Whose feed.' }),
            photo: Type.String(),
          }),
          response: { 200: FeedExplanation },
        },
      },
      async (request) => {
        const viewer = requireViewer(request)
        const [accountId, photoId] = [parseId(request.query.account), parseId(request.query.photo)]
        const explanation =
          accountId === undefined || photoId === undefined
            ? undefined
            : await explainFeed(context, viewer, { accountId, photoId })
        if (explanation === undefined) throw problem('not_found', 'There is no such feed, or no such photo.')
        return { ...explanation, rules: [...explanation.rules] }
      },
    )
  }
}
