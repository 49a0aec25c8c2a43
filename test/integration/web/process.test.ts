import pg from 'pg'
import t from 'tap'
import { startMonogram } from '../../support/monogram.ts'

const SECRET = 'correct horse battery'

t.test('the web process: one line a request without secrets, ids that travel, and a quick leave', async (t) => {
  const counts = { 'fanout-worker': 0, 'thumbnail-worker': 0, 'safety-worker': 0, 'id-allocator': 0 }
  const { urls, processes, databaseUrl } = await startMonogram(t, { counts })
  const [url = ''] = urls
  const [web] = processes.web
  if (web === undefined) throw new Error('no web process')

  async function signUp(username: string): Promise<{ id: string; token: string }> {
    const response = await fetch(`${url}/v1/accounts`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username, password: SECRET, email: `${username}@secret.example` }),
    })
    const body = await response.text()
    t.equal(response.status, 201, body)
    const { account, token } = JSON.parse(body) as { account: { id: string }; token: string }
    return { id: account.id, token }
  }
  const [ann, ben] = [await signUp('ann'), await signUp('ben')]
  const followed = await fetch(`${url}/v1/accounts/${ben.id}/follow?token=${ann.token}`, {
    method: 'PUT',
    headers: { 'authorization': `Bearer ${ann.token}`, 'x-request-id': 'follow-1', 'content-type': 'application/json' },
  })
  t.equal(followed.status, 200)
  await followed.text()

  const line = await web.logged(({ requestId }) => requestId === 'follow-1')
  t.match(line, { level: 'info', msg: 'request', method: 'PUT', route: '/v1/accounts/:id/follow', status: 200, ms: Number })
  const everything = JSON.stringify(web.log)
  for (const secret of [SECRET, ann.token, ben.token, 'secret.example']) t.notOk(everything.includes(secret), 'not in the log')

  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const { rows } = await client.query<{ request_id: string }>('select request_id from outbox')
  await client.end()
  t.strictSame(rows, [{ request_id: 'follow-1' }], 'the message carries the request’s id')

  const startedMs = performance.now()
  t.strictSame(await web.kill('SIGTERM'), { code: 0, signal: null })
  t.ok(performance.now() - startedMs < 10_000, 'idle keep-alive connections do not hold it up')
})
