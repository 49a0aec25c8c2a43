import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { parseId, type Id } from '#kernel/snowflake.ts'
import { accountNotFound } from '#domain/accounts/accounts.queries.ts'
import { presentAccounts, presentRelationship, type RelationshipJson } from '#domain/accounts/profiles.ts'
import { follow, unfollow } from '#domain/follows/follow.ts'
import { readFollowees, readFollowers } from '#domain/follows/follows.lists.ts'
import { readRelationships } from '#domain/follows/follows.queries.ts'
import { ListOf, PageQuery, readPage, sendPage } from '../pagination.ts'
import { requireViewer } from '../plugins/auth.ts'
import { readingContext, writingContext } from '../plugins/consistency.ts'
import { AccountSchema, RelationshipSchema } from '../schemas/account.schema.ts'
import type { WebContext } from '../web-context.ts'
import { requireAccount } from './accounts.ts'

const Params = Type.Object({ id: Type.String() })
const BEARER = [{ bearer: [] }]

const LISTS = [
  { name: 'followers', operationId: 'listFollowers', summary: 'Who follows an account, newest first', read: readFollowers },
  { name: 'following', operationId: 'listFollowing', summary: 'Whom an account follows, newest first', read: readFollowees },
] as const

/** Following, unfollowing, and both lists. */
export function followRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  const { router, config } = context

  async function relationshipTo(viewerId: Id, id: Id): Promise<RelationshipJson> {
    return presentRelationship((await readRelationships(router, viewerId, [id])).get(id))
  }

  return async (app) => {
    app.put(
      '/accounts/:id/follow',
      {
        schema: {
          operationId: 'follow',
          tags: ['follows'],
          summary: 'Follow an account',
          security: BEARER,
          params: Params,
          response: { 200: RelationshipSchema },
        },
      },
      async (request) => {
        const { accountId } = requireViewer(request)
        const id = idOf(request.params.id)
        await follow(writingContext(context, request, accountId), accountId, id)
        return relationshipTo(accountId, id)
      },
    )

    app.delete(
      '/accounts/:id/follow',
      {
        schema: {
          operationId: 'unfollow',
          tags: ['follows'],
          summary: 'Unfollow an account',
          security: BEARER,
          params: Params,
          response: { 200: RelationshipSchema },
        },
      },
      async (request) => {
        const { accountId } = requireViewer(request)
        const id = idOf(request.params.id)
        await unfollow(writingContext(context, request, accountId), accountId, id)
        return relationshipTo(accountId, id)
      },
    )

    for (const { name, operationId, summary, read } of LISTS) {
      const kind = `account.${name}`
      app.get(
        `/accounts/:id/${name}`,
        {
          schema: {
            operationId,
            tags: ['follows'],
            summary,
            params: Params,
            querystring: PageQuery,
            response: { 200: ListOf(AccountSchema) },
          },
        },
        async (request, reply) => {
          const page = readPage(kind, request.query)
          const { router: reader } = readingContext(context, request)
          const account = await requireAccount(reader, request.params.id)
          const { accounts, next } = await read(reader, account.id, page)
          const items = await presentAccounts(reader, accounts, request.viewer?.accountId ?? null)
          return sendPage(reply, { kind, items, next, base: config.http.publicUrl ?? '' })
        },
      )
    }
  }
}

function idOf(text: string): Id {
  const id = parseId(text)
  if (id === undefined) throw accountNotFound()
  return id
}
