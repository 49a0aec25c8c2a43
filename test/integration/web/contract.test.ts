import t from 'tap'
import { ERRORS } from '#kernel/errors.ts'
import type { AppRouter, Database } from '#domain/database.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { startWeb, type Answer, type Person, type TestWeb } from './web-app.ts'

t.test('every error is a problem of the catalogue', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const json = { 'content-type': 'application/json' }
  const cases: [Promise<Answer>, keyof typeof ERRORS][] = [
    [web.send('GET', '/nothing'), 'not_found'],
    [web.send('GET', '/v1'), 'not_found'],
    [web.send('GET', '/v1/nothing', { as: ann }), 'not_found'],
    [web.send('GET', '/v1/nothing/%zz'), 'not_found'],
    [web.send('GET', '/v1/photos/x'), 'not_found'],
    [web.send('DELETE', '/v1/accounts'), 'method_not_allowed'],
    [web.send('POST', '/v1/accounts/1/follow'), 'method_not_allowed'],
    [web.send('GET', '/v1/me'), 'unauthorized'],
    [web.send('PATCH', '/v1/me', { body: { bio: 7 } }), 'unauthorized'],
    [web.send('GET', '/v1/feed'), 'unauthorized'],
    [raw(web, ann, '{"bio":', json), 'invalid_request'],
    [raw(web, ann, '"text"', json), 'invalid_request'],
    [raw(web, ann, 'null', json), 'invalid_request'],
    [raw(web, ann, '{"__proto__":{"a":1}}', json), 'invalid_request'],
    [raw(web, ann, '', json), 'invalid_request'],
    [raw(web, ann, 'bio=x', { 'content-type': 'application/x-www-form-urlencoded' }), 'unsupported_media_type'],
    [raw(web, ann, 'bio', { 'content-type': 'text/plain' }), 'unsupported_media_type'],
    [raw(web, ann, '{}', { 'content-type': 'nonsense' }), 'unsupported_media_type'],
    [raw(web, ann, JSON.stringify({ bio: 'x'.repeat(70_000) }), json), 'payload_too_large'],
    [raw(web, ann, 'x', { 'content-type': 'multipart/form-data' }), 'unsupported_media_type'],
    [web.send('PATCH', '/v1/me', { as: ann }), 'invalid_request'],
    [web.send('PATCH', '/v1/me', { as: ann, body: { private: 'no' } }), 'invalid_request'],
    [web.send('PATCH', '/v1/me', { as: ann, body: { bio: null } }), 'invalid_request'],
  ]
  for (const [sent, code] of cases) {
    const { status, headers, body, text } = await sent
    const name = `${code}: ${text}`
    t.equal(status, ERRORS[code].status, name)
    t.equal(headers['content-type'], 'application/problem+json; charset=utf-8', name)
    t.match(body, { type: `urn:monogram:problem:${code}`, title: ERRORS[code].title, status, code, detail: /\.$/ }, name)
    t.equal(body.requestId, headers['x-request-id'], name)
    t.match(body.instance, /^\/[^?]*$/, name)
  }
  const allow = await web.send('DELETE', '/v1/accounts')
  t.equal(allow.headers.allow, 'POST')
})

t.test('limit and cursor', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const lists = ['/v1/feed', '/v1/sessions', `/v1/accounts/${ann.id}/photos`, `/v1/accounts/${ann.id}/followers`, `/v1/accounts/${ann.id}/following`]
  const bad = ['limit=0', 'limit=101', 'limit=-1', 'limit=x', 'limit=1.5', 'limit=', 'limit=1e1', 'limit=30&limit=30', 'limit=%00']
  for (const list of lists) {
    for (const query of bad) {
      const answer = await web.send('GET', `${list}?${query}`, { as: ann })
      t.match(answer, { status: 400, body: { code: 'invalid_request', errors: [{ path: '/query/limit' }] } }, `${list}?${query}`)
    }
    for (const cursor of ['x', '', '%00', 'a'.repeat(1_000), Buffer.from('{"id":1}').toString('base64url')]) {
      const answer = await web.send('GET', `${list}?cursor=${cursor}`, { as: ann })
      t.match(answer, { status: 400, body: { errors: [{ path: '/query/cursor' }] } }, `${list}?cursor=${cursor}`)
    }
    t.match(await web.send('GET', `${list}?limit=100&other=1`, { as: ann }), { status: 200, body: { next: null } })
  }
})

t.test('a request’s id comes back, unless it is not fit for a log', async (t) => {
  const web = await startWeb(t)
  const ask = async (id: string): Promise<unknown> =>
    (await web.send('GET', '/healthz', { headers: { 'x-request-id': id } })).headers['x-request-id']
  t.equal(await ask('abc-123_4.5'), 'abc-123_4.5')
  for (const bad of ['', 'a b', 'x'.repeat(129), '{"a":1}', 'ä']) t.match(await ask(bad), /^[0-9a-f-]{36}$/, bad)
  t.not(await ask(''), await ask(''))
})

t.test('one resource has an entity tag', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const first = await web.send('GET', '/v1/accounts/ann')
  const tag = String(first.headers.etag)
  t.match(tag, /^W\/"[\w-]{27}"$/)
  t.equal(first.headers['cache-control'], 'private, no-cache')
  for (const header of [tag, `"x", ${tag}`, tag.replace('W/', ''), '*']) {
    const again = await web.send('GET', '/v1/accounts/ann', { headers: { 'if-none-match': header } })
    t.match(again, { status: 304, text: '' }, header)
    t.equal(again.headers.etag, tag)
    t.equal(again.headers['content-type'], undefined)
  }
  t.not((await web.send('GET', '/v1/accounts/ann', { as: ann })).headers.etag, tag, 'another caller, another answer')
  await web.send('PATCH', '/v1/me', { as: ann, body: { bio: 'new' } })
  t.match(await web.send('GET', '/v1/accounts/ann', { headers: { 'if-none-match': tag } }), { status: 200, body: { bio: 'new' } })
})

t.test('a body is optional where none is needed', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await web.person('ann'), await web.person('ben')]
  const headers = { 'content-type': 'application/json' }
  t.match(await web.send('PUT', `/v1/accounts/${ben.id}/follow`, { as: ann, headers }), { status: 200 })
  t.match(await web.send('DELETE', '/v1/sessions/current', { as: ann, headers }), { status: 204 })
})

t.test('OpenAPI describes every route, and /docs shows it without the network', async (t) => {
  const web = await startWeb(t)
  const { body } = await web.send('GET', '/openapi.json')
  t.match(body.openapi, /^3\.1\./)
  const paths = body.paths as unknown as Record<string, Record<string, { security?: object[]; responses: object; tags: string[]; operationId?: string; requestBody?: object; parameters?: object[] }>>
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
  )
  for (const name of ['post /v1/accounts', 'post /v1/sessions', 'delete /v1/sessions/{id}', 'get /v1/me', 'patch /v1/me',
    'get /v1/accounts/{idOrUsername}', 'put /v1/accounts/{id}/follow', 'get /v1/accounts/{id}/followers', 'get /v1/feed',
    'post /v1/photos', 'get /v1/photos/{id}', 'get /healthz', 'get /readyz']) {
    t.ok(operations.some((operation) => operation.name === name), name)
  }
  for (const { name, operation } of operations) {
    t.ok('default' in operation.responses, `${name} may answer with a problem`)
    t.equal(operation.tags.length, 1, name)
    if (name.includes('/v1/')) t.ok(operation.security, `${name} says whether it needs a token`)
    if (name.includes('/v1/')) t.type(operation.operationId, 'string', `${name} has a name for generated clients`)
  }
  t.strictSame(paths['/v1/me']?.get?.security, [{ bearer: [] }])
  t.strictSame(paths['/v1/accounts']?.post?.security, [])
  t.match(paths['/v1/photos']?.post, {
    requestBody: { content: { 'multipart/form-data': { schema: { required: ['file'], properties: { caption: { type: 'string' } } } } } },
  })

  const docs = await web.send('GET', '/docs/')
  t.equal(docs.status, 200)
  t.notMatch(docs.text, /(src|href)="(https?:)?\/\//, 'nothing from elsewhere')
  const script = /src="([^"]+)"/.exec(docs.text)?.[1] ?? ''
  t.match(await web.send('GET', `/docs/${script}`), { status: 200, headers: { 'content-type': /javascript/ } })
  t.match(await web.send('GET', '/docs'), { status: 301 })
})

t.test('health, readiness and metrics', async (t) => {
  const web = await startWeb(t, { env: { METRICS_TOKEN: 'of the monitor' } })
  t.strictSame((await web.send('GET', '/healthz')).body, { status: 'ok' })
  t.match(await web.send('GET', '/readyz'), { status: 200, body: { status: 'ready' } })

  await web.send('GET', '/v1/accounts/nobody')
  const metrics = await web.send('GET', '/metrics', { as: { token: 'of the monitor' } })
  t.equal(metrics.status, 200)
  t.match(metrics.text, /monogram_http_request_seconds_count\{process="web",method="GET",route="\/v1\/accounts\/:idOrUsername",status="404"/)
  t.match(metrics.text, /monogram_http_requests_in_flight\{[^}]*\} 1\n/, 'this one')
  for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'of the monitor' }]) {
    t.match(await web.send('GET', '/metrics', { headers }), { status: 404, body: { code: 'not_found' } })
  }
})

t.test('without its database the service says so, and stays', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const primary = openPool<Database>({ url: 'postgres://nobody@127.0.0.1:1/none', max: 1, applicationName: 'test' }, web.context.log)
  t.teardown(() => primary.destroy())
  const gone = { name: 'DATABASE_URL', primary }
  const router = Object.create(web.context.router, { nodes: { value: [gone] }, read: { value: (_shard: number, work: (db: typeof primary) => unknown) => work(primary) } }) as AppRouter
  const broken = await startWeb(t, { overrides: { router } })

  t.match(await broken.send('GET', '/v1/me', { as: ann }), {
    status: 503,
    headers: { 'retry-after': /^\d+$/ },
    body: { code: 'unavailable' },
  })
  t.match(await broken.send('GET', '/readyz'), {
    status: 503,
    body: { status: 'unavailable', components: [{ name: 'DATABASE_URL', status: 'down' }] },
  })
  t.match(await broken.send('GET', '/healthz'), { status: 200 })
})

function raw(web: TestWeb, as: Person, payload: string, headers: Record<string, string>): Promise<Answer> {
  return web.send('PATCH', '/v1/me', { as, body: payload, headers })
}
