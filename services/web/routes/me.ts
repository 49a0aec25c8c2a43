import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { accountNotFound, findAccount, updateProfile, type AccountRow } from '#domain/accounts/accounts.queries.ts'
import { BIO_CHARACTERS_MAX, checkProfileChange, DISPLAY_NAME_CHARACTERS_MAX } from '#domain/accounts/accounts.rules.ts'
import { presentAccount } from '#domain/accounts/profiles.ts'
import type { AppRouter } from '#domain/database.ts'
import { requireViewer } from '../plugins/auth.ts'
import { readingContext, writingContext } from '../plugins/consistency.ts'
import { OwnAccountSchema } from '../schemas/account.schema.ts'
import type { WebContext } from '../web-context.ts'

const BEARER = [{ bearer: [] }]

/** One's own account. */
export function meRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  const { router } = context

  async function presentOwn(reader: AppRouter, row: AccountRow) {
    return { ...(await presentAccount(reader, row, row.id)), email: row.email, role: row.role }
  }

  return async (app) => {
    app.get(
      '/me',
      {
        schema: {
          operationId: 'getMe',
          tags: ['me'],
          summary: 'One’s own account',
          security: BEARER,
          response: { 200: OwnAccountSchema },
        },
      },
      async (request) => {
        const { router: reader } = readingContext(context, request)
        const account = await findAccount(reader, requireViewer(request).accountId)
        if (account === undefined) throw accountNotFound()
        return presentOwn(reader, account)
      },
    )

    app.patch(
      '/me',
      {
        schema: {
          operationId: 'updateMe',
          tags: ['me'],
          summary: 'Change one’s profile',
          security: BEARER,
          body: Type.Object(
            {
              displayName: Type.Optional(
                Type.String({ description: `1 to ${DISPLAY_NAME_CHARACTERS_MAX} characters.` }),
              ),
              bio: Type.Optional(Type.String({ description: `At most ${BIO_CHARACTERS_MAX} characters.` })),
              private: Type.Optional(Type.Boolean({ description: 'Private accounts are not available yet.' })),
            },
            { additionalProperties: false },
          ),
          response: { 200: OwnAccountSchema },
        },
      },
      async (request) => {
        const { accountId } = requireViewer(request)
        const writing = writingContext(context, request, accountId)
        return presentOwn(router, await updateProfile(writing, accountId, checkProfileChange(request.body)))
      },
    )
  }
}
