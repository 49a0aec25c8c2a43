import { hash } from 'node:crypto'
import fp from 'fastify-plugin'
import { isListSchema } from '../pagination.ts'

const DIGEST_CHARACTERS = 27

/**
 * Gives every JSON answer to a GET of one resource an entity tag, the hash of its bytes, and 304 to whoever has them
 * already. A list has none: it is long, and what it shows changes while it is read. Answers depend on who asks, so only
 * that client's own cache may keep them, and must ask each time.
 */
export const etag = fp(
  (app, _options, done) => {
    app.addHook('onSend', (request, reply, payload, next) => {
      const { method } = request
      const isTaggable = reply.statusCode === 200 && (typeof payload === 'string' || Buffer.isBuffer(payload))
      if ((method !== 'GET' && method !== 'HEAD') || !isTaggable) {
        next(null, payload)
        return
      }
      reply.header('cache-control', 'private, no-cache').header('vary', 'Authorization')
      if (isListSchema(request.routeOptions.schema?.response)) {
        next(null, payload)
        return
      }
      const tag = `W/"${hash('sha256', payload, 'base64url').slice(0, DIGEST_CHARACTERS)}"`
      reply.header('etag', tag)
      if (!holds(request.headers['if-none-match'], tag)) {
        next(null, payload)
        return
      }
      reply.code(304).removeHeader('content-type').removeHeader('content-length')
      next(null, null)
    })
    done()
  },
  { name: 'etag' },
)

/** Whether an If-None-Match names a tag. RFC 9110, 13.1.2: `*`, or a list of tags compared without their weakness. */
export function holds(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false
  const bare = tag.replace(/^W\//, '')
  return header.split(',').some((text) => ['*', bare].includes(text.trim().replace(/^W\//, '')))
}
