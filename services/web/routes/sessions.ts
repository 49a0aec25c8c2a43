import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { problem, ProblemError } from '#kernel/errors.ts'
import { parseId } from '#kernel/snowflake.ts'
import { presentAccount } from '#domain/accounts/profiles.ts'
import { deleteSession, listSessions, type SessionRow } from '#domain/accounts/sessions.queries.ts'
import { signIn } from '#domain/accounts/sign-in.ts'
import { ListOf, PageQuery, readPage, sendPage } from '../pagination.ts'
import { requireViewer } from '../plugins/auth.ts'
import { readingContext, speakFor, writingContext } from '../plugins/consistency.ts'
import { addressOf, SIGN_IN_BY_ADDRESS, SIGN_IN_BY_NAME, takeUses, type TakenUses } from '../plugins/rate-limit.ts'
import { SessionSchema, SignedInSchema } from '../schemas/account.schema.ts'
import type { WebContext } from '../web-context.ts'

const LIST = 'sessions'
/** Longer names have no account, and would only fill the limits' memory. */
const NAME_KEY_CHARACTERS_MAX = 64
const BEARER = [{ bearer: [] }]

/** Signing in and out. */
export function sessionRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  const { router, rates, clock, config } = context

  return async (app) => {
    app.post(
      '/sessions',
      {
        schema: {
          operationId: 'signIn',
          tags: ['sessions'],
          summary: 'Sign in',
          security: [],
          body: Type.Object({ username: Type.String(), password: Type.String() }),
          response: { 201: SignedInSchema },
        },
      },
      async (request, reply) => {
        const { username } = request.body
        const uses = await takeUses(rates, reply, [
          { policy: SIGN_IN_BY_NAME, key: username.toLowerCase().slice(0, NAME_KEY_CHARACTERS_MAX) },
          { policy: SIGN_IN_BY_ADDRESS, key: addressOf(request) },
        ])
        const { account, token } = await countFailures(uses, () =>
          signIn(writingContext(context, request, null), request.body, request.headers['user-agent'] ?? ''),
        )
        speakFor(request, account.id)
        reply.code(201)
        return { account: await presentAccount(router, account, account.id), token }
      },
    )

    app.get(
      '/sessions',
      {
        schema: {
          operationId: 'listSessions',
          tags: ['sessions'],
          summary: 'Where one is signed in, newest first',
          security: BEARER,
          querystring: PageQuery,
          response: { 200: ListOf(SessionSchema) },
        },
      },
      async (request, reply) => {
        const viewer = requireViewer(request)
        const { before, limit } = readPage(LIST, request.query)
        const page = { before, limit: limit + 1, nowMs: clock.nowMs() }
        const rows = await listSessions(readingContext(context, request).router, viewer.accountId, page)
        const shown = rows.slice(0, limit)
        return sendPage(reply, {
          kind: LIST,
          items: shown.map((row) => presentSession(row, row.id === viewer.sessionId)),
          next: rows.length > limit ? (shown.at(-1)?.id ?? null) : null,
          base: config.http.publicUrl ?? '',
        })
      },
    )

    app.delete(
      '/sessions/:id',
      {
        schema: {
          operationId: 'revokeSession',
          tags: ['sessions'],
          summary: 'Sign out: one session, or `current`',
          security: BEARER,
          params: Type.Object({ id: Type.String() }),
          response: { 204: Type.Null() },
        },
      },
      async (request, reply) => {
        const viewer = requireViewer(request)
        const sessionId = request.params.id === 'current' ? viewer.sessionId : parseId(request.params.id)
        const revoked = sessionId !== undefined && (await deleteSession(writingContext(context, request, viewer.accountId), viewer.accountId, sessionId))
        if (!revoked) throw problem('not_found', 'There is no such session.')
        return reply.code(204).send(null)
      },
    )
  }
}

/** Lets only wrong passwords count: who signs in rightly, or meets a fault of ours, loses nothing. */
async function countFailures<T>(uses: TakenUses, work: () => Promise<T>): Promise<T> {
  try {
    const result = await work()
    await uses.giveBack()
    return result
  } catch (error) {
    if (!(error instanceof ProblemError && error.code === 'unauthorized')) await uses.giveBack()
    throw error
  }
}

function presentSession(row: SessionRow, current: boolean) {
  return {
    id: row.id.toString(),
    createdAt: row.created_at.toISOString(),
    lastSeenAt: row.last_seen_at.toISOString(),
    userAgent: row.user_agent,
    current,
  }
}
