import fp from 'fastify-plugin'
import { httpMetrics } from '#platform/metrics/http-metrics.ts'
import type { Registry } from '#platform/metrics/metrics.ts'

/** Counts and times every request, by route and status, and counts its database statements. */
export function requestMetrics(registry: Registry) {
  const metrics = httpMetrics(registry)
  return fp(
    (app, _options, done) => {
      app.addHook('onRequest', (_request, reply, next) => {
        // `close` comes also when the client leaves before the response does.
        reply.raw.once('close', metrics.begin())
        next()
      })
      app.addHook('onResponse', (request, reply, next) => {
        const labels = { method: request.method, route: request.routeOptions.url ?? 'none', status: reply.statusCode }
        metrics.answered(labels, reply.elapsedTime / 1_000, request.trace.cost.statements)
        next()
      })
      done()
    },
    { name: 'request-metrics', dependencies: ['request-id'] },
  )
}
