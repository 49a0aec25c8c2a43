import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
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
    // When it is sent, not when it was asked for: a long upload may have begun before.
    app.addHook('onSend', (_request, reply, _payload, next) => {
      if (draining) reply.header('connection', 'close')
      next()
    })
    closeUnused(app)
    done()
  },
  { name: 'drain' },
)

/**
 * Node closes idle connections at the end, but takes one that never sent anything for busy, and waits as long as a
 * header may take.
 */
function closeUnused(app: FastifyInstance): void {
  const sockets = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  app.addHook('preClose', (next) => {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
    next()
  })
}
