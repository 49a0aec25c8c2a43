import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { problem, ProblemError } from '#kernel/errors.ts'
import type { Context } from '#domain/context.ts'
import { isMediaKey } from '#domain/photos/photos.rules.ts'
import type { ByteRange } from '#platform/blob-store/blob-store.ts'

const YEAR_SECONDS = 365 * 24 * 60 * 60
const SIGNATURE_LIFE_SECONDS = 15 * 60
/** A redirect that is used again at its end still leads to five minutes of the signature. */
const REDIRECT_LIFE_SECONDS = 10 * 60
const SAFETY_HEADERS = {
  'content-security-policy': "default-src 'none'",
  'cross-origin-resource-policy': 'cross-origin',
  'x-content-type-options': 'nosniff',
} as const

/**
 * GET /media/{key}: the bytes of a rendition, or the way to them where the store signs URLs. A key holds 128 secret
 * bits and its bytes never change, so whoever has it may keep it for good; originals have no such key and are never
 * served.
 */
export function mediaRoutes({ blobs }: Pick<Context, 'blobs'>): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get<{ Params: { '*': string } }>(
      '/media/*',
      { schema: { tags: ['media'], summary: 'The bytes of a rendition', operationId: 'getMedia' } },
      async (request, reply) => {
        const key = `media/${request.params['*']}`
        if (!isMediaKey(key)) throw noPicture()
        // A signature is for GET alone, so HEAD is answered here.
        if (blobs.signedUrl !== undefined && request.method === 'GET') {
          const url = await blobs.signedUrl(key, SIGNATURE_LIFE_SECONDS)
          if (url === undefined) throw noPicture()
          return reply
            .headers({ 'cache-control': `private, max-age=${REDIRECT_LIFE_SECONDS}`, ...SAFETY_HEADERS })
            .redirect(url, 302)
        }
        const range = parseRange(request.headers.range)
        const blob = await blobs.get(key, range === null ? {} : { range }).catch(async (error: unknown) => {
          if (!(error instanceof ProblemError && error.code === 'range_not_satisfiable')) throw error
          const whole = await blobs.get(key)
          whole?.stream.destroy()
          if (whole !== undefined) reply.header('content-range', `bytes */${whole.totalBytes}`)
          throw error
        })
        if (blob === undefined) throw noPicture()
        if (range !== null) {
          const end = range.start + blob.bytes - 1
          reply.code(206).header('content-range', `bytes ${range.start}-${end}/${blob.totalBytes}`)
        }
        return reply
          .headers({
            'content-type': blob.contentType,
            'content-length': blob.bytes,
            'accept-ranges': 'bytes',
            'cache-control': `public, max-age=${YEAR_SECONDS}, immutable`,
            ...SAFETY_HEADERS,
          })
          .send(blob.stream)
      },
    )
  }
}

function noPicture(): ProblemError {
  return problem('not_found', 'There is no such picture.')
}

/** One range of bytes from a given start; anything else is answered with the whole, as RFC 9110 allows. */
function parseRange(header: string | undefined): ByteRange | null {
  const match = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(header ?? '')
  if (match === null) return null
  const start = Number(match[1])
  if (match[2] === '' || match[2] === undefined) return { start }
  const end = Number(match[2])
  return end < start ? null : { start, end }
}
