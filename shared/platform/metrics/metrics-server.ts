import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Registry } from 'prom-client'

const REQUEST_TIMEOUT_MS = 10_000

/**
 * Serves `/metrics` and `/healthz` on a port of their own, for processes that serve nothing else.
 * The port is meant for the private network: it asks for no token.
 *
 * @throws Error of listen, such as EADDRINUSE
 */
export async function startMetricsServer(
  registry: Registry,
  options: { host: string; port: number },
): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    if (request.url === '/healthz') {
      response.end('ok\n')
      return
    }
    if (request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    registry.metrics().then(
      (text) => response.setHeader('content-type', registry.contentType).end(text),
      () => response.writeHead(500).end(),
    )
  })
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.listen(options.port, options.host)
  await once(server, 'listening')
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
