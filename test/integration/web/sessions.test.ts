import t from 'tap'
import { sql } from 'kysely'
import { manualClock } from '#kernel/clock.ts'
import { SESSION_LIFE_MS, SESSIONS_MAX } from '#domain/accounts/sessions.queries.ts'
import { TOUCH_AFTER_MS } from '#domain/accounts/activity.ts'
import { startWeb, type Json } from './web-app.ts'

const PASSWORD = 'correct horse battery'

t.test('signing in, listing, signing out', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const signIn = await web.send('POST', '/v1/sessions', {
    body: { username: 'ANN', password: PASSWORD },
    headers: { 'user-agent': 'Second phone' },
  })
  t.match(signIn, { status: 201, body: { account: { id: ann.id, username: 'ann' }, token: /^mg1_/ } })
  const second = { token: signIn.body.token ?? '' }

  const list = await web.send('GET', '/v1/sessions', { as: second })
  t.match(list.body, { items: [{ userAgent: 'Second phone', current: true }, { current: false }], next: null })
  t.strictSame(Object.keys(list.body.items?.[0] ?? {}), ['id', 'createdAt', 'lastSeenAt', 'userAgent', 'current'])
  t.notMatch(list.text, /secret|hash/)

  const first = list.body.items?.[1]?.id ?? ''
  t.match(await web.send('DELETE', `/v1/sessions/${first}`, { as: second }), { status: 204, text: '' })
  t.match(await web.send('GET', '/v1/me', { as: ann }), { status: 401 }, 'revoked at once')
  t.match(await web.send('DELETE', `/v1/sessions/${first}`, { as: second }), { status: 404 })
  t.match(await web.send('DELETE', '/v1/sessions/current', { as: second }), { status: 204 })
  t.match(await web.send('DELETE', '/v1/sessions/current', { as: second }), { status: 401 })
})

t.test('nobody signs another out', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await web.person('ann'), await web.person('ben')]
  const { body } = await web.send('GET', '/v1/sessions', { as: ann })
  for (const id of [body.items?.[0]?.id ?? '', '1', 'x', '99999999999999999999']) {
    t.match(await web.send('DELETE', `/v1/sessions/${id}`, { as: ben }), { status: 404, body: { code: 'not_found' } })
  }
  t.match(await web.send('GET', '/v1/me', { as: ann }), { status: 200 })
})

t.test('a wrong password and an unknown name get the same answer', async (t) => {
  const web = await startWeb(t)
  await web.person('ann')
  const tries = [
    { username: 'ann', password: 'wrong' },
    { username: 'nobody', password: PASSWORD },
    { username: 'not a name!', password: PASSWORD },
    { username: 'ann', password: '' },
    { username: '', password: '' },
  ]
  const answers = await Promise.all(tries.map((body) => web.send('POST', '/v1/sessions', { body })))
  const told = answers.map(({ status, body }) => ({ status, code: body.code, detail: body.detail }))
  t.match(told[0], { status: 401, code: 'unauthorized' })
  for (const other of told) t.strictSame(other, told[0])
})

t.test('every token but a good one is refused the same way', async (t) => {
  const clock = manualClock(Date.now())
  const web = await startWeb(t, { overrides: { clock } })
  const ann = await web.person('ann')
  const flip = (text: string, at: number): string => text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1)
  const bad = [flip(ann.token, 10), flip(ann.token, 30), flip(ann.token, 60), ann.token.slice(0, -1), 'mg1_', 'x'.repeat(5_000)]
  const answers = await Promise.all(bad.map((token) => web.send('GET', '/v1/me', { as: { token } })))
  const shape = (body: Json): unknown => Object.assign({}, body, { requestId: '' })
  for (const answer of answers) {
    t.equal(answer.status, 401)
    t.equal(answer.headers['www-authenticate'], 'Bearer')
    t.strictSame(shape(answer.body), shape(answers[0]?.body ?? ({} as Json)))
  }
  for (const authorization of ['Basic YTpi', 'Bearer', ann.token, `Bearer ${ann.token} x`]) {
    t.match(await web.send('GET', '/v1/me', { headers: { authorization } }), { status: 401 }, authorization)
  }
  t.match(await web.send('GET', '/v1/accounts/ann', { as: { token: 'x' } }), { status: 401 }, 'also where none is needed')
  t.match(await web.send('GET', '/v1/me', { headers: { authorization: `bearer  ${ann.token}` } }), { status: 200 })

  clock.advance(SESSION_LIFE_MS - 1)
  t.match(await web.send('GET', '/v1/me', { as: ann }), { status: 200 })
  clock.advance(1)
  t.match(await web.send('GET', '/v1/me', { as: ann }), { status: 401 }, 'expired')
})

t.test('a deleted account’s token is worth nothing', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  await sql`update accounts set status = 'deleted'`.execute(web.context.router.directory.primary)
  t.match(await web.send('GET', '/v1/me', { as: ann }), { status: 401 })
  t.match(await web.send('POST', '/v1/sessions', { body: { username: 'ann', password: PASSWORD } }), { status: 401 })
  t.match(await web.send('GET', `/v1/accounts/${ann.id}`), { status: 404 })
})

t.test('the last use is noted, but not with every request', async (t) => {
  const clock = manualClock(Date.now())
  const web = await startWeb(t, { overrides: { clock } })
  const ann = await web.person('ann')
  const lastSeen = async (): Promise<number> => {
    await web.context.activity.settled()
    return Date.parse((await web.send('GET', '/v1/sessions', { as: ann })).body.items?.[0]?.lastSeenAt ?? '')
  }
  const made = await lastSeen()
  clock.advance(TOUCH_AFTER_MS - 1)
  await web.send('GET', '/v1/me', { as: ann })
  t.equal(await lastSeen(), made)
  clock.advance(1)
  await web.send('GET', '/v1/me', { as: ann })
  t.equal(await lastSeen(), made + TOUCH_AFTER_MS)
})

t.test('an account keeps its newest sessions', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const accountId = BigInt(ann.id)
  await sql`insert into sessions (account_id, id, secret_hash, user_agent, expires_at)
    select ${accountId}, n, '\\x00', 'old', now() + interval '1 day' from generate_series(1, ${SESSIONS_MAX}) as n`.execute(
    web.context.router.directory.primary,
  )
  await web.send('POST', '/v1/sessions', { body: { username: 'ann', password: PASSWORD } })
  const { body } = await web.send('GET', '/v1/sessions?limit=100', { as: ann })
  t.equal(body.items?.length, SESSIONS_MAX)
  t.equal(body.next, null)
  const page = await web.send('GET', '/v1/sessions?limit=40', { as: ann })
  t.strictSame(page.body.items, body.items?.slice(0, 40))
  t.match(page.headers.link, `cursor=${page.body.next ?? ''}`)
})
