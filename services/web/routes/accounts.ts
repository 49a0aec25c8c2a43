import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { parseId, type Id } from '#kernel/snowflake.ts'
import { readProfile, readSummaries, readUsernameHolder } from '#domain/accounts/accounts.cache.ts'
import { accountNotFound, findAccount, type AccountRow } from '#domain/accounts/accounts.queries.ts'
import {
  checkSignUp,
  DISPLAY_NAME_CHARACTERS_MAX,
  normaliseUsername,
  PASSWORD_CHARACTERS_MAX,
  PASSWORD_CHARACTERS_MIN,
} from '#domain/accounts/accounts.rules.ts'
import { presentAccount, presentRelationship } from '#domain/accounts/profiles.ts'
import { signUpOnce } from '#domain/accounts/sign-up-once.ts'
import { signUp } from '#domain/accounts/sign-up.ts'
import type { AppRouter } from '#domain/database.ts'
import { readRelationships } from '#domain/follows/follows.queries.ts'
import { readPhotoFragments, readPlacesOf } from '#domain/photos/photos.cache.ts'
import type { ShownPhoto } from '#domain/photos/photos.splice.ts'
import { IdempotencyHeaders, readIdempotencyKey } from '../idempotency-key.ts'
import { sendJson, sendPhotoPage } from '../json-bytes.ts'
import { ListOf, PageQuery, readPage } from '../pagination.ts'
import { readingContext, speakFor, writingContext } from '../plugins/consistency.ts'
import { addressOf, SIGN_UP_BY_ADDRESS, takeUses } from '../plugins/rate-limit.ts'
import { AccountSchema, SignedInSchema } from '../schemas/account.schema.ts'
import { Nullable } from '../schemas/nullable.ts'
import { PhotoSchema } from '../schemas/photo.schema.ts'
import type { WebContext } from '../web-context.ts'

/** The rules that a schema can only hint at are the domain's: it counts code points, and trims. */
const SignUpBody = Type.Object({
  username: Type.String({ description: '3 to 30 of a-z, 0-9, _ and ., with at least one letter or underscore.' }),
  password: Type.String({ description: `${PASSWORD_CHARACTERS_MIN} to ${PASSWORD_CHARACTERS_MAX} characters.` }),
  displayName: Type.Optional(
    Nullable(Type.String({ description: `At most ${DISPLAY_NAME_CHARACTERS_MAX} characters; else the username.` })),
  ),
  email: Type.Optional(Nullable(Type.String())),
})

const PHOTOS_LIST = 'account.photos'

/** Signing up, and what everybody may see of an account. */
export function accountRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  const { router, rates, config } = context

  return async (app) => {
    app.post(
      '/accounts',
      {
        schema: {
          operationId: 'signUp',
          tags: ['accounts'],
          summary: 'Sign up, and in',
          security: [],
          headers: IdempotencyHeaders,
          body: SignUpBody,
          response: { 201: SignedInSchema },
        },
      },
      async (request, reply) => {
        await takeUses(rates, reply, [{ policy: SIGN_UP_BY_ADDRESS, key: addressOf(request) }])
        const input = checkSignUp(request.body)
        const key = readIdempotencyKey(request.headers['idempotency-key'])
        const userAgent = request.headers['user-agent'] ?? ''
        const writing = writingContext(context, request, null)
        const { account, token } = await (key === null
          ? signUp(writing, input, userAgent)
          : signUpOnce(writing, { key, input, userAgent }))
        speakFor(request, account.id)
        reply.code(201).header('location', `/v1/accounts/${account.id}`)
        return { account: await presentAccount(router, account, account.id), token }
      },
    )

    app.get(
      '/accounts/:idOrUsername',
      {
        schema: {
          operationId: 'getAccount',
          tags: ['accounts'],
          summary: 'A profile',
          params: Type.Object({ idOrUsername: Type.String() }),
          response: { 200: AccountSchema },
        },
      },
      async (request, reply) => {
        const reading = readingContext(context, request)
        const id = await lookUp(reading, request.params.idOrUsername)
        const viewerId = request.viewer?.accountId ?? null
        const [profile, relationships] = await Promise.all([
          readProfile(reading, id),
          viewerId === null ? null : readRelationships(reading.router, viewerId, [id]),
        ])
        if (profile === undefined) throw accountNotFound()
        const relationship = relationships && presentRelationship(relationships.get(id))
        return sendJson(reply, ['{', profile, `,"relationship":${JSON.stringify(relationship)}}`])
      },
    )

    app.get(
      '/accounts/:id/photos',
      {
        schema: {
          operationId: 'listAccountPhotos',
          tags: ['photos'],
          summary: 'An account’s published photos, newest publication first',
          params: Type.Object({ id: Type.String() }),
          querystring: PageQuery,
          response: { 200: ListOf(PhotoSchema) },
        },
      },
      async (request, reply) => {
        const { before, limit } = readPage(PHOTOS_LIST, request.query)
        const accountId = accountIdOf(request.params.id)
        const reading = readingContext(context, request)
        const [account] = await readSummaries(reading, [accountId])
        if (account === undefined) throw accountNotFound()
        const { places } = await readPlacesOf(reading, accountId, { before, limit: limit + 1 })
        const fragments = await readPhotoFragments(reading, places.slice(0, limit).map((place) => place.photoId))
        const photos = fragments.flatMap((fragment): ShownPhoto[] => (fragment === undefined ? [] : [{ fragment, account }]))
        const next = places.length > limit ? (places[limit - 1]?.publishedId ?? null) : null
        return sendPhotoPage(reply, { kind: PHOTOS_LIST, photos, next, base: config.http.publicUrl ?? '' })
      },
    )
  }
}

/**
 * The active account that a path's parameter names by id.
 *
 * @throws ProblemError not_found, also for a malformed id
 */
export async function requireAccount(router: AppRouter, text: string): Promise<AccountRow> {
  const account = await findAccount(router, accountIdOf(text))
  if (account === undefined) throw accountNotFound()
  return account
}

/** A malformed id names nothing, so it is answered as an absent one is. */
function accountIdOf(text: string): Id {
  const id = parseId(text)
  if (id === undefined) throw accountNotFound()
  return id
}

/** No username is all digits, so the two cannot be confused. */
async function lookUp(context: WebContext, text: string): Promise<Id> {
  const username = normaliseUsername(text)
  if (username === undefined) return accountIdOf(text)
  const id = await readUsernameHolder(context, username)
  if (id === undefined) throw accountNotFound()
  return id
}
