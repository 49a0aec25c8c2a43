import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { parseId } from '#kernel/snowflake.ts'
import { accountNotFound, findAccount, findAccountByUsername, type AccountRow } from '#domain/accounts/accounts.queries.ts'
import {
  checkSignUp,
  DISPLAY_NAME_CHARACTERS_MAX,
  normaliseUsername,
  PASSWORD_CHARACTERS_MAX,
  PASSWORD_CHARACTERS_MIN,
} from '#domain/accounts/accounts.rules.ts'
import { presentAccount } from '#domain/accounts/profiles.ts'
import { signUp } from '#domain/accounts/sign-up.ts'
import { photosToJson } from '#domain/photos/photos.hydration.ts'
import { listPublishedOf } from '#domain/photos/photos.queries.ts'
import { ListOf, PageQuery, readPage, sendPage } from '../pagination.ts'
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
          body: SignUpBody,
          response: { 201: SignedInSchema },
        },
      },
      async (request, reply) => {
        await takeUses(rates, reply, [{ policy: SIGN_UP_BY_ADDRESS, key: addressOf(request) }])
        const input = checkSignUp(request.body)
        const { account, token } = await signUp(context, input, request.headers['user-agent'] ?? '')
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
      async (request) => {
        const account = await lookUp(context, request.params.idOrUsername)
        return presentAccount(router, account, request.viewer?.accountId ?? null)
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
        const account = await requireAccount(context, request.params.id)
        const rows = await listPublishedOf(router, account.id, { before, limit: limit + 1 })
        const shown = rows.slice(0, limit)
        const next = rows.length > limit ? (shown.at(-1)?.published_id ?? null) : null
        const items = await photosToJson(context, shown)
        return sendPage(reply, { kind: PHOTOS_LIST, items, next, base: config.http.publicUrl ?? '' })
      },
    )
  }
}

/**
 * The active account that a path's parameter names by id.
 *
 * @throws ProblemError not_found, also for a malformed id
 */
export async function requireAccount({ router }: WebContext, text: string): Promise<AccountRow> {
  const id = parseId(text)
  const account = id === undefined ? undefined : await findAccount(router, id)
  if (account === undefined) throw accountNotFound()
  return account
}

/** No username is all digits, so the two cannot be confused. */
async function lookUp(context: WebContext, text: string): Promise<AccountRow> {
  const username = normaliseUsername(text)
  if (username === undefined) return requireAccount(context, text)
  const account = await findAccountByUsername(context.router, username)
  if (account === undefined) throw accountNotFound()
  return account
}
