import multipart from '@fastify/multipart'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { accessLog } from './plugins/access-log.ts'
import { auth } from './plugins/auth.ts'
import { clientErrors } from './plugins/client-error.ts'
import { consistency } from './plugins/consistency.ts'
import { drain } from './plugins/drain.ts'
import { etag } from './plugins/etag.ts'
import { lenientJson } from './plugins/lenient-json.ts'
import { requestMetrics } from './plugins/metrics.ts'
import { openapi, registerDocs } from './plugins/openapi.ts'
import { explain, problems, sendProblem } from './plugins/problem.ts'
import { pickRequestId, requestId } from './plugins/request-id.ts'
import { validatorCompiler } from './plugins/validation.ts'
import { UPLOAD_LIMITS } from './receive-upload.ts'
import { accountRoutes } from './routes/accounts.ts'
import { debugRoutes } from './routes/debug.ts'
import { feedRoutes } from './routes/feed.ts'
import { followRoutes } from './routes/follows.ts'
import { healthRoutes } from './routes/health.ts'
import { homeRoutes } from './routes/home.ts'
import { meRoutes } from './routes/me.ts'
import { mediaRoutes } from './routes/media.ts'
import { moderationRoutes } from './routes/moderation.ts'
import { photoRoutes } from './routes/photos.ts'
import { sessionRoutes } from './routes/sessions.ts'
import { uploadRoutes } from './routes/uploads.ts'
import type { WebContext } from './web-context.ts'

/** Enough for every JSON body of the contract; uploads have their own limits. */
const BODY_BYTES_MAX = 64 * 1_024
const PATH_PARAMETER_CHARACTERS_MAX = 256
/** Heroku's router keeps a connection for 90 s: were ours shorter, it would send into a closing one. */
const KEEP_ALIVE_MS = 95_000
const HEADERS_TIMEOUT_MS = 15_000
/** For a whole request: an upload of 20 MB passes at 1.4 Mbit/s. */
const REQUEST_TIMEOUT_MS = 120_000
const TIMEOUT_CHECK_MS = 2_000
const CONNECTIONS_MAX = 20_000

/** Builds the HTTP service, ready to `inject` or `listen`. */
export async function buildApp(context: WebContext): Promise<FastifyInstance> {
  const log: FastifyBaseLogger = context.log
  const app = fastify({
    loggerInstance: log,
    // Our own plugin writes one line a request, without the query.
    logController: new LogController({ disableRequestLogging: true }),
    // Log lines have their request's id by its trace: a logger for each request costs more than its line.
    childLoggerFactory: (logger) => logger,
    genReqId: pickRequestId,
    trustProxy: context.config.http.trustedProxies.length > 0 ? [...context.config.http.trustedProxies] : false,
    bodyLimit: BODY_BYTES_MAX,
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: { headersTimeout: HEADERS_TIMEOUT_MS, connectionsCheckingInterval: TIMEOUT_CHECK_MS },
    // What comes while we leave is still answered, and then told to go elsewhere.
    return503OnClosing: false,
    routerOptions: { maxParamLength: PATH_PARAMETER_CHARACTERS_MAX },
    clientErrorHandler: clientErrors(log),
    frameworkErrors: (error, request, reply) => void sendProblem(request, reply, explain(log, error, request)),
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.setValidatorCompiler(validatorCompiler)
  app.server.maxConnections = CONNECTIONS_MAX

  await app.register(requestId)
  await app.register(accessLog(context.log))
  await app.register(requestMetrics(context.metrics))
  await app.register(drain)
  await app.register(problems(log))
  await app.register(lenientJson)
  await app.register(openapi)

  await app.register(healthRoutes(context))
  await app.register(mediaRoutes(context))
  await app.register(homeRoutes(context))
  await app.register(registerDocs)
  await app.register(
    async (v1) => {
      await v1.register(auth(context))
      await v1.register(consistency(context))
      await v1.register(etag)
      await v1.register(accountRoutes(context))
      await v1.register(sessionRoutes(context))
      await v1.register(meRoutes(context))
      await v1.register(followRoutes(context))
      await v1.register(async (uploads) => {
        await uploads.register(multipart, { limits: UPLOAD_LIMITS, throwFileSizeLimit: false })
        await uploads.register(uploadRoutes(context))
      })
      await v1.register(photoRoutes(context))
      await v1.register(feedRoutes(context))
      await v1.register(debugRoutes(context))
      await v1.register(moderationRoutes(context))
    },
    { prefix: '/v1' },
  )
  app.addHook('onClose', () => context.activity.settled())
  await app.ready()
  return app
}
