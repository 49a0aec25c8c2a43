import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { problem, type ProblemError } from '#kernel/errors.ts'
import { toProblem } from './to-problem.ts'

/** The body of a problem. `request.path` is without its query. */
export function problemBody(error: ProblemError, request: { readonly id: string; readonly path: string }): object {
  return {
    type: `urn:monogram:problem:${error.code}`,
    title: error.title,
    status: error.status,
    code: error.code,
    detail: error.detail,
    instance: request.path,
    requestId: request.id,
    ...(error.errors !== undefined && { errors: error.errors }),
  }
}

/** Sends an error as RFC 9457 says. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: ProblemError): FastifyReply {
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', Math.max(1, Math.ceil(error.retryAfterSeconds)))
  if (error.status === 401) reply.header('www-authenticate', 'Bearer')
  return reply
    .code(error.status)
    .headers({
      'content-type': 'application/problem+json; charset=utf-8',
      'cache-control': 'no-store',
      'x-request-id': request.id,
    })
    .send(JSON.stringify(problemBody(error, { id: request.id, path: pathOf(request) })))
}

/** Turns whatever goes wrong into a problem: errors, unknown addresses, methods that an address does not have. */
export function problems(log: FastifyBaseLogger) {
  return fp(
    (app, _options, done) => {
      const routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = []
      app.addHook('onRoute', ({ url, method }) => {
        routes.push({ pattern: patternOf(url), methods: [method].flat() })
      })
      app.setErrorHandler((error, request, reply) => sendProblem(request, reply, explain(log, error, request)))
      app.setNotFoundHandler((request, reply) => {
        const path = pathOf(request)
        const methods = new Set(routes.filter((route) => route.pattern.test(path)).flatMap((route) => route.methods))
        if (methods.size === 0) return sendProblem(request, reply, problem('not_found', 'There is nothing at this address.'))
        const allow = [...methods].sort().join(', ')
        return sendProblem(
          request,
          reply.header('allow', allow),
          problem('method_not_allowed', `This address has only ${allow}.`),
        )
      })
      done()
    },
    { name: 'problems' },
  )
}

/** The problem for an error; what is our fault, or the database's, goes to the log with its cause. */
export function explain(log: FastifyBaseLogger, error: unknown, request: FastifyRequest): ProblemError {
  const told = toProblem(error, request)
  const facts = { requestId: request.id, err: told.cause ?? error, method: request.method, route: request.routeOptions.url }
  if (told.code === 'internal') log.error(facts, 'a request failed')
  else if (told.status >= 500) log.warn(facts, 'a request could not be served')
  return told
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? ''
}

/** A route's pattern as an expression; parameters match one segment, `*` the rest. */
function patternOf(url: string): RegExp {
  const source = url
    .split('/')
    .map((part) => (part.startsWith(':') ? '[^/]+' : part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')))
    .join('/')
  return new RegExp(`^${source}$`)
}
