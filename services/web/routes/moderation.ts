import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { problem } from '#kernel/errors.ts'
import { parseId, shardOf, type Id } from '#kernel/snowflake.ts'
import { presentModerated, type ModeratedPhotoJson } from '#domain/moderation/moderation.presenter.ts'
import { claimPhoto, decidePhoto, listHeld, type ModeratedPhoto } from '#domain/moderation/moderation.queries.ts'
import { CLAIM_MS, NOTE_CHARACTERS_MAX } from '#domain/moderation/moderation.rules.ts'
import { keysOfPublication } from '#domain/photos/photos.keys.ts'
import { photoNotFound } from '#domain/photos/photos.queries.ts'
import { retellWrite } from '#domain/write-through.ts'
import { answerOnce, type OnceWork } from '../answer-once.ts'
import { IdempotencyHeaders, readIdempotencyKey } from '../idempotency-key.ts'
import { ListOf, PageQuery, readPage, sendPage } from '../pagination.ts'
import { photoIdOf } from '../photo-id.ts'
import { requireViewer } from '../plugins/auth.ts'
import { writingContext } from '../plugins/consistency.ts'
import { Nullable } from '../schemas/nullable.ts'
import { ModeratedPhotoSchema } from '../schemas/photo.schema.ts'
import type { WebContext } from '../web-context.ts'

const QUEUE_LIST = 'moderation.queue'
const BEARER = [{ bearer: [] }]
const PhotoParams = Type.Object({ id: Type.String() })

/** What moderators do with held photos. To everybody else these addresses do not exist. */
export function moderationRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  const { router, config } = context

  async function present(photo: ModeratedPhoto): Promise<ModeratedPhotoJson> {
    const [json] = await presentModerated(context, [photo])
    if (json === undefined) throw photoNotFound()
    return json
  }

  /** Answers a POST on one photo, once for each Idempotency-Key. */
  async function answer(request: FastifyRequest, work: OnceWork<ModeratedPhotoJson>): Promise<ModeratedPhotoJson> {
    const { accountId } = requireViewer(request)
    const key = readIdempotencyKey(request.headers['idempotency-key'])
    const parts = [`POST ${request.url}`, JSON.stringify(request.body ?? null)]
    return answerOnce(context, { accountId, key, parts }, work)
  }

  return async (app) => {
    app.addHook('preValidation', async (request) => {
      if (requireViewer(request).role !== 'moderator') throw problem('not_found', 'There is no such resource.')
    })

    app.get(
      '/moderation/queue',
      {
        schema: {
          operationId: 'listHeldPhotos',
          tags: ['moderation'],
          summary: 'Photos held for review, oldest first',
          security: BEARER,
          querystring: PageQuery,
          response: { 200: ListOf(ModeratedPhotoSchema) },
        },
      },
      async (request, reply) => {
        const { before: after, limit } = readPage(QUEUE_LIST, request.query)
        const held = await listHeld(router, { after, limit: limit + 1 })
        const items = await presentModerated(context, held.slice(0, limit))
        const next = held.length > limit ? (held[limit - 1]?.id ?? null) : null
        return sendPage(reply, { kind: QUEUE_LIST, items, next, base: config.http.publicUrl ?? '' })
      },
    )

    app.post(
      '/moderation/photos/:id/claim',
      {
        schema: {
          operationId: 'claimPhoto',
          tags: ['moderation'],
          summary: 'Take a held photo, so that no other moderator decides on it',
          description: `For ${CLAIM_MS / 60_000} minutes; claimed again, they begin anew.`,
          security: BEARER,
          headers: IdempotencyHeaders,
          params: PhotoParams,
          response: { 200: ModeratedPhotoSchema },
        },
      },
      async (request) => {
        const id = photoIdOf(request.params.id)
        const { accountId: moderatorId } = requireViewer(request)
        return answer(request, {
          run: async () => present(await claimPhoto(router, id, moderatorId)),
          // Claims are looked at on primaries alone.
          retell: () => Promise.resolve(),
        })
      },
    )

    app.post(
      '/moderation/photos/:id/decision',
      {
        schema: {
          operationId: 'decidePhoto',
          tags: ['moderation'],
          summary: 'Release a held photo, or reject it',
          description: '`clean` publishes it as of now, so it stands at the top of feeds; `reject` is final.',
          security: BEARER,
          headers: IdempotencyHeaders,
          params: PhotoParams,
          body: Type.Object(
            {
              verdict: Type.Enum(['clean', 'reject']),
              note: Type.Optional(Nullable(Type.String({ maxLength: NOTE_CHARACTERS_MAX, description: 'Why; for moderators.' }))),
            },
            { additionalProperties: false },
          ),
          response: { 200: ModeratedPhotoSchema },
        },
      },
      async (request) => {
        const id = photoIdOf(request.params.id)
        const { verdict, note } = request.body
        const { accountId: moderatorId } = requireViewer(request)
        const writing = writingContext(context, request, moderatorId)
        return answer(request, {
          run: async () => present(await decidePhoto(writing, id, { moderatorId, verdict, note: note ?? '' })),
          retell: ({ account }) => retellWrite(writing, shardOf(id), keysOfPublication(id, keptId(account.id))),
        })
      },
    )
  }
}

/** An id out of an answer of our own. */
function keptId(text: string): Id {
  const id = parseId(text)
  if (id === undefined) throw new TypeError(`${text} is no id`)
  return id
}
