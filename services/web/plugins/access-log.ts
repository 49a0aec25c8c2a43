import fp from 'fastify-plugin'
import { lineLog } from '#platform/logger/line-log.ts'
import type { Logger } from '#platform/logger/logger.ts'

/** One line for each request. The route's pattern stands for the path, so no query, name or token is in it. */
export function accessLog(log: Logger) {
  const lines = lineLog(log, 'request')
  return fp(
    (app, _options, done) => {
      if (!lines.isEnabled) {
        done()
        return
      }
      app.addHook('onResponse', (request, reply, next) => {
        const ms = Math.round(reply.elapsedTime * 10) / 10
        // Nothing of this comes from a client unchecked: the parser knows the methods, and `pickRequestId` the ids.
        lines.write(
          `"requestId":"${request.id}","method":"${request.method}","route":"${request.routeOptions.url ?? 'none'}",` +
            `"status":${reply.statusCode},"ms":${ms}`,
        )
        next()
      })
      done()
    },
    { name: 'access-log' },
  )
}
