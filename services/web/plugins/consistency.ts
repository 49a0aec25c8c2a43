import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Id } from '#kernel/snowflake.ts'
import { openToken, sealToken, type TokenContents } from '#domain/consistency/consistency-token.ts'
import { extendReach, readMarker, readPositions, withMarker } from '#domain/consistency/marker.ts'
import type { Context } from '#domain/context.ts'
import type { Database } from '#domain/database.ts'
import type { Reach } from '#platform/postgres/reader.ts'
import type { Node } from '#platform/postgres/node.ts'

/** In requests and answers; see docs/levers.md. */
export const CONSISTENCY_TOKEN = 'consistency-token'

declare module 'fastify' {
  interface FastifyRequest {
    /** Null as long as there is nothing that the answer's consistency token would have to say. */
    consistency: RequestConsistency | null
  }
}

/** What a request finds out of the nodes it uses. */
interface RequestConsistency {
  /** Whose token it is; null while nobody has signed in. */
  accountId: Id | null
  /** What the request's own token says, if it is good. */
  readonly brought: TokenContents | undefined
  /** Those with replicas that we know; all, for a client that has a token, which others may use on replicas that they know. */
  readonly written: Set<Node<Database>>
  /** Nodes that the request's token does not open yet. */
  readonly unplaced: Set<Node<Database>>
}

/** Gives answers their consistency token: after a write, and to whoever brings one that lacks something. */
export function consistency(context: Context) {
  return fp(
    (app, _options, done) => {
      app.decorateRequest('consistency', null)
      app.addHook('onSend', async (request, reply, payload) => {
        const { consistency: found } = request
        if (found === null || found.accountId === null || found.written.size + found.unplaced.size === 0) return payload
        reply.header(CONSISTENCY_TOKEN, await nextToken(context, found.accountId, found))
        return payload
      })
      done()
    },
    { name: 'consistency', dependencies: ['auth'] },
  )
}

/**
 * The context for a request that reads: on replicas, where they are far enough for whoever asks. For an anonymous
 * request that is as far as any in rotation; else a marker or a token must say how far.
 */
export function readingContext<C extends Context>(context: C, request: FastifyRequest): C {
  const { router } = context
  if (!router.hasReplicas) return context
  if (request.viewer === null) return { ...context, router: router.forReader({ reach: null }) }
  const { accountId } = request.viewer
  const found = consistencyOf(context, request, accountId)
  const isTokenUser = bringsToken(request)
  const reader = router.forReader({
    reach: () => reachOf(context, accountId, found.brought),
    onUnplaced: (node) => isTokenUser && found.unplaced.add(node),
  })
  return { ...context, router: reader }
}

/**
 * The context for a request that writes. It reads primaries. The marker of the account goes with each of its changes,
 * also where no replica is configured: other processes may have some already, or still.
 *
 * @param accountId null before somebody has signed in; `speakFor` says later who it was
 */
export function writingContext<C extends Context>(context: C, request: FastifyRequest, accountId: Id | null): C {
  const { router, invalidations, cache } = context
  const isTokenUser = bringsToken(request)
  if (!router.hasReplicas && !cache.isEnabled && !isTokenUser) return context
  const found = consistencyOf(context, request, accountId)
  return {
    ...context,
    router: router.forWriter((node) => (isTokenUser || node.replicas !== null) && found.written.add(node)),
    invalidations: accountId === null ? invalidations : withMarker(invalidations, accountId),
  }
}

/** Says whom a request that signs in or up has been answered for. */
export function speakFor(request: FastifyRequest, accountId: Id): void {
  if (request.consistency !== null) request.consistency.accountId = accountId
}

/** Also a token that is no good: its client wants the next one. */
function bringsToken(request: FastifyRequest): boolean {
  return request.headers[CONSISTENCY_TOKEN] !== undefined
}

function consistencyOf({ config, clock }: Context, request: FastifyRequest, accountId: Id | null): RequestConsistency {
  const token = request.headers[CONSISTENCY_TOKEN]
  const brought =
    accountId !== null && typeof token === 'string'
      ? openToken(config.secretKey, accountId, token, clock.nowMs())
      : undefined
  return (request.consistency ??= { accountId, brought, written: new Set(), unplaced: new Set() })
}

async function reachOf(context: Context, accountId: Id, brought: TokenContents | undefined): Promise<Reach> {
  const marked = context.cache.isEnabled ? await readMarker(context, accountId) : new Map<string, bigint>()
  if (brought === undefined) return marked
  const reach = new Map(marked)
  for (const [history, lsn] of brought.reach) extendReach(reach, { history, lsn })
  return reach
}

/**
 * What was brought, and where the logs of the nodes end now that it does not open, or no longer. It opens nothing more on
 * nodes of which we know no replicas: where there are some, other processes may know them already, or still.
 */
async function nextToken(
  { router, config, clock }: Context,
  accountId: Id,
  { brought, written, unplaced }: RequestConsistency,
): Promise<string> {
  const nowMs = clock.nowMs()
  const nodes = new Set([...written, ...unplaced])
  const positions = await readPositions(nodes)
  // A token that lets somebody read a node from before the write must not stay: then a new one begins, with less in it.
  const kept = positions.length === nodes.size ? brought : undefined
  const histories = new Set(router.nodes.map(({ replicas }) => replicas?.history))
  const reach = new Map([...(kept?.reach ?? [])].filter(([history]) => histories.has(history)))
  for (const position of positions) extendReach(reach, position)
  return sealToken(config.secretKey, accountId, { reach, madeMs: kept?.madeMs ?? nowMs })
}
