import { readFileSync } from 'node:fs'
import fastify from 'fastify'
import { Client } from 'memjs'
import { Type } from 'typebox'
import { ListOf } from '../../services/web/pagination.ts'
import { PhotoSchema } from '../../services/web/schemas/photo.schema.ts'

/**
 * The usual way to answer from memcached: a get for each thing, parsed, and serialised by the route's schema. No
 * authentication, no log, nothing to invalidate.
 * Arguments: the port, the file that holds a page of a feed, the memcached.
 */
const [port = '0', file = '', memcached = ''] = process.argv.slice(2)
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

const app = fastify()
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
