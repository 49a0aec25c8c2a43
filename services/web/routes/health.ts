import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import { Type } from 'typebox'
import { problem } from '#kernel/errors.ts'
import { withinDeadline } from '#platform/lifecycle/deadline.ts'
import type { WebContext } from '../web-context.ts'

/** A node that takes longer is not one to send people to. */
const PROBE_DEADLINE_MS = 2_000

const ReadinessSchema = Type.Object({
  status: Type.Enum(['ready', 'unavailable', 'draining']),
  components: Type.Array(
    Type.Object({ name: Type.String(), kind: Type.String(), status: Type.Enum(['up', 'down', 'degraded']), ms: Type.Number() }),
  ),
})

/** What hosts and monitors ask. */
export function healthRoutes(context: WebContext): FastifyPluginAsyncTypebox {
  const { metrics, config } = context

  return async (app) => {
    app.get(
      '/healthz',
      {
        schema: {
          tags: ['health'],
          summary: 'The process answers; it asks nobody else',
          response: { 200: Type.Object({ status: Type.Literal('ok') }) },
        },
      },
      () => ({ status: 'ok' as const }),
    )

    app.get(
      '/readyz',
      {
        schema: {
          tags: ['health'],
          summary: 'Whether to send people here: a database node answers, and the process is not leaving. What else is away is among the components',
          response: { 200: ReadinessSchema, 503: ReadinessSchema },
        },
      },
      async (_request, reply) => {
        const components = await Promise.all(context.router.nodes.map((node) => probe(node)))
        // Of several nodes: what one has is away for every web process alike, and the others serve theirs.
        const up = components.some((component) => component.status === 'up')
        const companions = context.companions.map((companion) => {
          const { name, kind } = companion
          return { name, kind, status: companion.health() === 'ok' ? ('up' as const) : ('degraded' as const), ms: 0 }
        })
        const status = app.isDraining() ? ('draining' as const) : up ? ('ready' as const) : ('unavailable' as const)
        reply.code(status === 'ready' ? 200 : 503).header('cache-control', 'no-store')
        return { status, components: [...components, ...companions] }
      },
    )

    app.get('/metrics', { schema: { hide: true } }, async (request, reply) => {
      const { token } = config.metrics
      if (token === null || !same(request.headers.authorization ?? '', `Bearer ${token}`)) {
        throw problem('not_found', 'There is nothing at this address.')
      }
      return reply.header('content-type', metrics.contentType).send(await metrics.metrics())
    })
  }
}

async function probe(node: WebContext['router']['nodes'][number]) {
  const startedMs = performance.now()
  try {
    await withinDeadline(sql`select 1`.execute(node.primary), PROBE_DEADLINE_MS)
    return describe('up')
  } catch {
    return describe('down')
  }

  function describe<S extends 'up' | 'down'>(status: S) {
    return { name: node.name, kind: 'postgresql', status, ms: Math.round(performance.now() - startedMs) }
  }
}

/** Compares digests, so that neither time nor length tells how much of a token was right. */
function same(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}
