import t from 'tap'
import { startWeb, type Json } from './web-app.ts'

const ALL_FALSE = { following: false, requested: false, followedBy: false, blocking: false, muting: false }

t.test('signing up, and one’s own account', async (t) => {
  const web = await startWeb(t)
  const made = await web.send('POST', '/v1/accounts', {
    body: { username: 'Ann.B', password: 'correct horse', email: 'Ann@Example.org' },
  })
  t.equal(made.status, 201)
  t.strictSame(Object.keys(made.body), ['account', 'token'])
  const { account } = made.body
  t.match(account?.id, /^[1-9][0-9]{0,18}$/)
  t.match(account?.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.strictSame(account, {
    id: account?.id,
    username: 'ann.b',
    displayName: 'ann.b',
    bio: '',
    private: false,
    avatarUrl: null,
    createdAt: account?.createdAt,
    photoCount: 0,
    followerCount: 0,
    followingCount: 0,
    relationship: ALL_FALSE,
  })
  t.equal(made.headers.location, `/v1/accounts/${account?.id ?? ''}`)

  const ann = { token: made.body.token ?? '' }
  const me = await web.send('GET', '/v1/me', { as: ann })
  t.strictSame(me.body, Object.assign({}, account, { email: 'ann@example.org', role: 'member' }))

  const changed = await web.send('PATCH', '/v1/me', { as: ann, body: { displayName: ' Ann ', bio: 'Foxes.', private: false } })
  t.match(changed, { status: 200, body: { displayName: 'Ann', bio: 'Foxes.', private: false, username: 'ann.b' } })
  t.match(await web.send('PATCH', '/v1/me', { as: ann, body: {} }), { status: 200, body: { displayName: 'Ann' } })
  t.match(await web.send('PATCH', '/v1/me', { as: ann, body: { private: true } }), {
    status: 422,
    body: { code: 'private_accounts_unavailable' },
  })
  t.match(await web.send('PATCH', '/v1/me', { as: ann, body: { bio: 'Hares.', email: 'a@example.org' } }), {
    status: 400,
    body: { code: 'invalid_request', errors: [{ path: '/body/email', code: 'unknown' }] },
  })
  t.match((await web.send('GET', '/v1/me', { as: ann })).body, { private: false, bio: 'Foxes.' })
})

t.test('profiles, by id and by name, to everybody', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await web.person('ann'), await web.person('ben')]
  const byName = await web.send('GET', '/v1/accounts/ANN')
  t.match(byName, { status: 200, body: { id: ann.id, username: 'ann', relationship: null } })
  t.notOk('email' in byName.body, 'the address is nobody’s business')
  t.strictSame((await web.send('GET', `/v1/accounts/${ann.id}`)).body, byName.body)
  t.strictSame((await web.send('GET', '/v1/accounts/ann', { as: ben })).body.relationship, ALL_FALSE)
  t.strictSame((await web.send('GET', '/v1/accounts/ann', { as: ann })).body.relationship, ALL_FALSE)

  const absent = ['nobody', '1', ann.id.replace(/.$/, (digit) => String((Number(digit) + 1) % 10)), '0', '-1', '01']
  const malformed = ['9223372036854775807', '9223372036854775808', '99999999999999999999999', '1e3', 'a', '%00', '%zz', 'x'.repeat(300)]
  const shape = (body: Json): unknown => [Object.keys(body), body.type, body.title, body.code]
  const answers = await Promise.all([...absent, ...malformed].map((text) => web.send('GET', `/v1/accounts/${text}`)))
  for (const [i, answer] of answers.entries()) {
    t.equal(answer.status, 404, `${[...absent, ...malformed][i]}`)
    t.strictSame(shape(answer.body), shape(answers[0]?.body ?? ({} as Json)))
  }
  t.match(await web.send('GET', `/v1/accounts/${ann.id}/photos`), { status: 200, body: { items: [], next: null } })
  t.match(await web.send('GET', '/v1/accounts/1/photos'), { status: 404 })
})

t.test('a sign-up that breaks a rule names the field', async (t) => {
  const web = await startWeb(t)
  const good = { username: 'ann', password: 'correct horse' }
  const cases: [body: unknown, path: string][] = [
    [{ password: 'correct horse' }, '/body/username'],
    [{ username: 'ann' }, '/body/password'],
    [{ ...good, username: 7 }, '/body/username'],
    [{ ...good, username: '12345' }, '/body/username'],
    [{ ...good, password: 'short' }, '/body/password'],
    [{ ...good, password: 'x'.repeat(257) }, '/body/password'],
    [{ ...good, displayName: 'x'.repeat(51) }, '/body/displayName'],
    [{ ...good, displayName: 'nul\0' }, '/body/displayName'],
    [{ ...good, email: 'nobody' }, '/body/email'],
    [{ ...good, email: ['a@b.c'] }, '/body/email'],
    [[], '/body'],
  ]
  for (const [body, path] of cases) {
    const answer = await web.send('POST', '/v1/accounts', { body })
    t.match(answer, { status: 400, body: { code: 'invalid_request' } }, path)
    t.equal(answer.body.errors?.[0]?.path, path)
  }
  t.match(await web.send('GET', '/v1/accounts/ann'), { status: 404 }, 'and makes nothing')
  t.match(await web.send('POST', '/v1/accounts', { body: { ...good, displayName: null, email: null } }), { status: 201 })
})

t.test('names are taken once, in any case', async (t) => {
  const web = await startWeb(t)
  const body = { username: 'ann', password: 'correct horse', email: 'ann@example.org' }
  t.match(await web.send('POST', '/v1/accounts', { body }), { status: 201 })
  t.match(await web.send('POST', '/v1/accounts', { body: { ...body, username: 'ANN', email: null } }), {
    status: 409,
    body: { code: 'username_taken', errors: [{ path: '/body/username' }] },
  })
  t.match(await web.send('POST', '/v1/accounts', { body: { ...body, username: 'ben', email: 'ANN@example.org' } }), {
    status: 409,
    body: { code: 'email_taken', errors: [{ path: '/body/email' }] },
  })
  t.match(await web.send('POST', '/v1/accounts', { body: { username: 'ben', password: 'correct horse' } }), { status: 201 },
    'the failed sign-up gave its username back')
})
