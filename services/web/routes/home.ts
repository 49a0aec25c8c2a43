import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { holds } from '../plugins/etag.ts'
import type { WebContext } from '../web-context.ts'

const PAGES = new URL('../pages/', import.meta.url)
const HOME = 'home.html'
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
}
const DIGEST_CHARACTERS = 27

/** A file of services/web/pages, as it is served. */
interface Page {
  readonly path: string
  readonly bytes: Buffer
  readonly headers: Readonly<Record<string, string>>
}

/**
 * The web page: a small client of the API at `/`, with its style, scripts and icon under /assets. The files are read once
 * and change only with a deploy, so that browsers may keep them but ask each time whether they still hold.
 */
export function homeRoutes({ config, blobs }: Pick<WebContext, 'config' | 'blobs'>): FastifyPluginAsyncTypebox {
  return async (app) => {
    const { publicUrl } = config.http
    const pictureOrigins = [publicUrl === null ? undefined : new URL(publicUrl).origin, await blobs.signedOrigin?.()]
    for (const { path, bytes, headers } of await readPages(contentSecurityPolicy(pictureOrigins))) {
      app.get(path, { schema: { hide: true } }, async (request, reply) => {
        reply.headers(headers)
        if (holds(request.headers['if-none-match'], headers['etag'] ?? '')) {
          return reply.code(304).removeHeader('content-type').send()
        }
        return reply.send(bytes)
      })
    }
  }
}

/** @throws Error for a file of a kind that the page has no use for */
async function readPages(policy: string): Promise<Page[]> {
  return Promise.all(
    (await readdir(PAGES)).map(async (name) => {
      const bytes = await readFile(new URL(name, PAGES))
      const type = CONTENT_TYPES[extname(name)]
      if (type === undefined) throw new Error(`services/web/pages has a file of a kind that it may not have: ${name}`)
      const digest = createHash('sha256').update(bytes).digest('base64url').slice(0, DIGEST_CHARACTERS)
      return {
        path: name === HOME ? '/' : `/assets/${name}`,
        bytes,
        headers: {
          'content-type': type,
          'etag': `"${digest}"`,
          'cache-control': 'no-cache',
          'content-security-policy': policy,
          'cross-origin-opener-policy': 'same-origin',
          'referrer-policy': 'no-referrer',
          'x-content-type-options': 'nosniff',
        },
      }
    }),
  )
}

/** Nothing but the page's own files, the API beside it, and pictures, which may come from hosts of their own. */
function contentSecurityPolicy(pictureOrigins: readonly (string | undefined)[]): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    ["img-src 'self' data:", ...pictureOrigins.filter((origin) => origin !== undefined)].join(' '),
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}
