import { Type, type Static, type TSchema } from 'typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { decodeCursor, encodeCursor } from '#kernel/cursor.ts'
import type { Id } from '#kernel/snowflake.ts'
import { Nullable } from './schemas/nullable.ts'

export const PAGE_ITEMS_DEFAULT = 30
export const PAGE_ITEMS_MAX = 100
/** No query, or a limit alone. */
const SIMPLE_QUERY = /^(?:limit=\d{1,3})?$/

/** The query of every list. */
export const PageQuery = Type.Object({
  cursor: Type.Optional(Type.String({ description: 'Where to go on: `next` of the page before.' })),
  limit: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: PAGE_ITEMS_MAX,
      default: PAGE_ITEMS_DEFAULT,
      description: 'Items on a page.',
    }),
  ),
})

/** Where a page begins and how long it is. */
export interface Page {
  readonly before: Id | null
  readonly limit: number
}

/** Those that `ListOf` made. */
const listSchemas = new WeakSet()

/** The schema of a list's answer. */
export function ListOf<S extends TSchema>(item: S) {
  const schema = Type.Object({ items: Type.Array(item), next: Nullable(Type.String()) })
  listSchemas.add(schema)
  return schema
}

/** True when a route's schemas of answers say that it gives a list. */
export function isListSchema(response: unknown): boolean {
  const answer = (response as { readonly 200?: object } | undefined)?.[200]
  return answer !== undefined && listSchemas.has(answer)
}

/**
 * Reads a list's query.
 *
 * @param kind names the list, as in its cursors
 * @throws ProblemError invalid_request for a cursor that this list did not give out
 */
export function readPage(kind: string, query: Static<typeof PageQuery>): Page {
  const [before = null] = query.cursor === undefined ? [] : decodeCursor(kind, query.cursor, 1)
  return { before: before as Id | null, limit: query.limit ?? PAGE_ITEMS_DEFAULT }
}

/**
 * Makes a list's answer, and the `Link` header that points to its next page (RFC 8288).
 *
 * @param next the place of the last item, to go on after; null at the end of the list
 */
export function sendPage<T>(
  reply: FastifyReply,
  list: { readonly kind: string; readonly items: readonly T[]; readonly next: Id | null; readonly base: string },
): { items: T[]; next: string | null } {
  const next = list.next === null ? null : encodeCursor(list.kind, list.next)
  if (next !== null) linkNext(reply, next, list.base)
  return { items: [...list.items], next }
}

/** Points to the next page of a list, in the `Link` header. */
export function linkNext(reply: FastifyReply, cursor: string, base: string): void {
  reply.header('link', `<${base}${nextUrl(reply.request, cursor)}>; rel="next"`)
}

function nextUrl(request: FastifyRequest, cursor: string): string {
  const [path = '', query = ''] = request.url.split('?', 2)
  // Where the query is as simple as it mostly is, taking it apart and writing it again would give the same.
  if (SIMPLE_QUERY.test(query)) return `${path}?${query === '' ? '' : `${query}&`}cursor=${cursor}`
  const parameters = new URLSearchParams(query)
  parameters.set('cursor', cursor)
  return `${path}?${parameters.toString()}`
}
