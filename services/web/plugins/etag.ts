import { hash } from 'node:crypto'
import fp from 'fastify-plugin'

const DIGEST_CHARACTERS = 27

/**
 * Gives every JSON answer to a GET an entity tag, the hash of its bytes, and 304 to whoever has them already.
 * Answers depend on who asks, so only that client's own cache may keep them, and must ask each time.
 */
export const etag = fp(
  (app, _options, done) => {
    app.addHook('onSend', async (request, reply, payload) => {
      if (request.method !== 'GET' && request.method !== 'HEAD') return payload
      if (reply.statusCode !== 200 || !(typeof payload === 'string' || Buffer.isBuffer(payload))) return payload
      const tag = `W/"${hash('sha256', payload, 'base64url').slice(0, DIGEST_CHARACTERS)}"`
      reply.headers({ 'etag': tag, 'cache-control': 'private, no-cache', 'vary': 'Authorization' })
      if (!holds(request.headers['if-none-match'], tag)) return payload
      reply.code(304).removeHeader('content-type').removeHeader('content-length')
      return null
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
