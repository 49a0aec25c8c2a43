import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** True once `drain` was called. */
    readonly isDraining: () => boolean
    /** From now on /readyz says no, and every response closes its connection. */
    readonly drain: () => void
  }
}

/** Lets a process leave without an error: clients are sent elsewhere while it still answers. */
export const drain = fp(
  (app, _options, done) => {
    let draining = false
    app.decorate('isDraining', () => draining)
    app.decorate('drain', () => {
      draining = true
    })
    app.addHook('onRequest', (_request, reply, next) => {
      if (draining) reply.header('connection', 'close')
      next()
    })
    done()
  },
  { name: 'drain' },
)
