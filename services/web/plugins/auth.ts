import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { problem } from '#kernel/errors.ts'
import { authenticate, type Viewer } from '#domain/accounts/authenticate.ts'
import type { WebContext } from '../web-context.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; null for an anonymous request. */
    viewer: Viewer | null
  }
}

const BEARER = /^bearer +(\S+) *$/i

/**
 * Reads the bearer token, before anything else of the request is looked at. A route's `security` says what it needs:
 * `[{ bearer: [] }]` a token; `[]` none, and none is looked at; left out, a token is welcome but must be good.
 */
export function auth(context: WebContext) {
  async function identify(request: FastifyRequest, token: string): Promise<void> {
    const authenticated = await authenticate(context, token)
    await context.activity.note(authenticated)
    request.viewer = authenticated.viewer
  }

  return fp(
    (app, _options, done) => {
      app.decorateRequest('viewer', null)
      app.addHook('onRequest', (request, _reply, next) => {
        const security = request.routeOptions.schema?.security
        if (request.is404 || security?.length === 0) {
          next()
          return
        }
        const header = request.headers.authorization
        if (header === undefined) {
          next(security === undefined ? undefined : signInFirst())
          return
        }
        const token = BEARER.exec(header)?.[1]
        if (token === undefined) {
          next(problem('unauthorized', 'The Authorization header must be `Bearer <token>`.'))
          return
        }
        void identify(request, token).then(() => next(), next)
      })
      done()
    },
    { name: 'auth' },
  )
}

/**
 * Who asks.
 *
 * @throws ProblemError unauthorized for an anonymous request
 */
export function requireViewer(request: FastifyRequest): Viewer {
  if (request.viewer === null) throw signInFirst()
  return request.viewer
}

function signInFirst(): Error {
  return problem('unauthorized', 'Sign in, and send the token as `Authorization: Bearer`.')
}
