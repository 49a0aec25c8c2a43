import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fastify from 'fastify'
import { Client } from 'memjs'
import { Type } from 'typebox'
import { httpMetrics } from '#platform/metrics/http-metrics.ts'
import { createMetrics } from '#platform/metrics/metrics.ts'
import { ListOf } from '../../services/web/pagination.ts'
import { PhotoSchema } from '../../services/web/schemas/photo.schema.ts'

/**
 * The usual way to answer from memcached: a get for each thing, parsed, and serialised by the route's schema; nothing to
 * invalidate. Bare, or with what a service has besides: a session behind the token, Fastify's own log, request ids, and
 * a histogram.
 * Arguments: the port, the file that holds a page of a feed, the memcached, `bare` or `whole`, a token that is good.
 */
const [port = '0', file = '', memcached = '', extent = 'bare', token = ''] = process.argv.slice(2)
const LIFE_SECONDS = 600

const page = JSON.parse(readFileSync(file, 'utf8')) as { items: { id: string }[]; next: string | null }
const client = Client.create(memcached, { timeout: 5 })
const keep = (key: string, value: unknown): Promise<boolean> =>
  client.set(key, Buffer.from(JSON.stringify(value)), { expires: LIFE_SECONDS })
for (const item of page.items) await keep(`naive:photo:${item.id}`, item)
await keep('naive:feed', page.items.map((item) => item.id))

async function get<T>(key: string): Promise<T> {
  const { value } = await client.get(key)
  if (value === null) throw new Error(`${key} is not there`)
  return JSON.parse(value.toString()) as T
}

const isWhole = extent === 'whole'
const app = fastify({ logger: isWhole, genReqId: () => randomUUID() })
if (isWhole) {
  const digest = (text: string): string => createHash('sha256').update(text).digest('hex')
  await keep(`naive:session:${digest(token)}`, { accountId: '1', expires: Date.now() + LIFE_SECONDS * 1_000 })
  const metrics = httpMetrics(createMetrics('bench'))
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id)
    const { authorization } = request.headers
    if (authorization === undefined) return
    const session = await get<{ expires: number }>(`naive:session:${digest(authorization.slice('Bearer '.length))}`)
    if (session.expires < Date.now()) throw new Error('expired')
  })
  app.addHook('onResponse', (request, reply, done) => {
    const labels = { method: request.method, route: request.routeOptions.url ?? 'none', status: reply.statusCode }
    metrics.answered(labels, reply.elapsedTime / 1_000, 0)
    done()
  })
}
app.get('/v1/feed', { schema: { response: { 200: ListOf(PhotoSchema) } } }, async () => {
  const ids = await get<string[]>('naive:feed')
  return { items: await Promise.all(ids.map((id) => get(`naive:photo:${id}`))), next: page.next }
})
app.get('/v1/photos/:id', { schema: { response: { 200: PhotoSchema } } }, (request) =>
  get(`naive:photo:${(request.params as { id: string }).id}`),
)
app.get('/hello', { schema: { response: { 200: Type.Object({ hello: Type.String() }) } } }, () => ({ hello: 'world' }))
app.get('/healthz', () => 'ok')
await app.listen({ port: Number(port), host: '127.0.0.1' })
process.once('SIGTERM', () => process.exit(0))
