import { once } from 'node:events'
import { Agent, request, type IncomingMessage } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { startWeb, type TestWeb } from './web-app.ts'

t.test('what is not HTTP is told so, as a problem', async (t) => {
  const { port } = await listen(t)
  for (const [sent, status, code] of [
    ['nonsense\r\n\r\n', 400, 'invalid_request'],
    [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 400, 'invalid_request'],
    ['GET /healthz HTTP/1.1\r\n\r\n', 400, 'invalid_request'],
    ['POST /v1/accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', 400, 'invalid_request'],
  ] as const) {
    const answer = await converse(port, sent)
    t.match(answer, new RegExp(`^HTTP/1.1 ${status} `))
    if (answer.includes('problem+json')) {
      t.match(answer, `"code":"${code}"`)
      t.equal(/"requestId":"([^"]+)"/.exec(answer)?.[1], /\r\nX-Request-Id: (\S+)\r\n/.exec(answer)?.[1])
    } else t.match(sent, /^GET \/healthz/, 'Node itself answers a request without Host')
  }
})

t.test('a strange Host is no fault of ours', async (t) => {
  const { port } = await listen(t)
  for (const path of ['/docs', '/docs/', '/v1/accounts/nobody', '/healthz']) {
    const answer = await converse(port, `GET ${path} HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n`)
    t.match(answer, /^HTTP\/1\.1 [1234]\d\d /, path)
  }
})

t.test('while draining: requests are answered, connections closed, and readiness says no', async (t) => {
  const { web, port } = await listen(t)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  t.match(await get(agent, port, '/readyz'), { status: 200, connection: 'keep-alive' })
  web.app.drain()
  t.match(await get(agent, port, '/healthz'), { status: 200, connection: 'close' })
  t.match(await get(agent, port, '/readyz'), { status: 503, connection: 'close', body: /"status":"draining"/ })
})

t.test('closing waits for the request in flight, not for idle connections', async (t) => {
  const { web, port } = await listen(t)
  const idle = connect(port, '127.0.0.1')
  await once(idle, 'connect')
  const busy = connect(port, '127.0.0.1')
  const body = JSON.stringify({ username: 'ann', password: 'correct horse' })
  busy.write(`POST /v1/accounts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`)
  busy.write(body.slice(0, 5))
  await inFlight(web)

  web.app.drain()
  const closed = web.app.close()
  busy.write(body.slice(5))
  t.match(await text(busy), /^HTTP\/1\.1 201 Created\r\n/)
  await closed
  await (idle.destroyed ? undefined : once(idle, 'close'))
  t.pass('closed')
})

async function listen(t: Test): Promise<{ web: TestWeb; port: number }> {
  const web = await startWeb(t)
  await web.app.listen({ host: '127.0.0.1', port: 0 })
  return { web, port: (web.app.server.address() as AddressInfo).port }
}

/** Waits until the server has begun to read a request, by its own metric. */
async function inFlight(web: TestWeb): Promise<void> {
  for (;;) {
    const metric = await web.context.metrics.getSingleMetricAsString('monogram_http_requests_in_flight')
    if (/ 1$/m.test(metric)) return
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function converse(port: number, sent: string): Promise<string> {
  const socket: Socket = connect(port, '127.0.0.1')
  socket.write(sent)
  return text(socket)
}

async function get(agent: Agent, port: number, path: string) {
  const sent = request({ agent, host: '127.0.0.1', port, path }).end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const body = await text(response)
  return { status: response.statusCode, connection: response.headers.connection, body }
}
