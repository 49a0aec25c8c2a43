import { readFileSync } from 'node:fs'
import fastify from 'fastify'

/**
 * The ceiling of every page: a bare server that gives one answer, made ahead, to every request.
 * Arguments: the port, and the file that holds the answer.
 */
const [port = '0', file = ''] = process.argv.slice(2)
const bytes = readFileSync(file)

const app = fastify()
app.get('/v1/feed', (_request, reply) => reply.header('content-type', 'application/json; charset=utf-8').send(bytes))
app.get('/healthz', () => 'ok')
await app.listen({ port: Number(port), host: '127.0.0.1' })
process.once('SIGTERM', () => process.exit(0))
