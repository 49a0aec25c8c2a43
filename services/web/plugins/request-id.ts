import type { IncomingMessage } from 'node:http'
import { randomUUID } from 'node:crypto'
import fp from 'fastify-plugin'
import { withTrace, type Trace, type TracedCost } from '#platform/logger/trace.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What the request is known by in logs and messages, and what it has cost. */
    trace: Trace & { readonly cost: TracedCost }
  }
}

/** What we take over from a client or a router in front: it goes into logs and messages. */
const ACCEPTABLE = /^[\w.:+/=@-]{1,128}$/

/** The request's own id if it brings an acceptable one, else a new one. */
export function pickRequestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && ACCEPTABLE.test(given) ? given : randomUUID()
}

/** Sends the request's id back, and puts it into the trace of everything that the request does. */
export const requestId = fp(
  (app, _options, done) => {
    app.decorateRequest('trace')
    app.addHook('onRequest', (request, reply, next) => {
      request.trace = { requestId: request.id, jobId: null, cost: { statements: 0 } }
      reply.header('x-request-id', request.id)
      withTrace(request.trace, next)
    })
    // The body's events come in the socket's asynchronous context, not in ours: enter the trace again.
    app.addHook('preValidation', (request, _reply, next) => {
      withTrace(request.trace, next)
    })
    done()
  },
  { name: 'request-id' },
)
