import t from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { SIGN_IN_BY_ADDRESS, SIGN_IN_BY_NAME, SIGN_UP_BY_ADDRESS } from '../../../services/web/plugins/rate-limit.ts'
import { startWeb, type TestWeb } from './web-app.ts'

const RIGHT = 'correct horse battery'

t.test('wrong passwords for one name', async (t) => {
  const clock = manualClock(Date.now())
  const web = await startWeb(t, { overrides: { clock } })
  await web.person('ann')
  for (let i = 0; i < SIGN_IN_BY_NAME.quota; i++) {
    t.match(await signIn(web, 'ann', 'wrong', `192.0.2.${i}`), { status: 401, headers: { ratelimit: `"signin";r=${9 - i};t=` } })
  }
  const refused = await signIn(web, 'ANN', RIGHT)
  t.match(refused, { status: 429, body: { code: 'rate_limited' }, headers: { 'retry-after': '6' } })
  t.match(refused.headers['ratelimit'], /^"signin";r=0;t=6, "signin-address";r=\d+;t=\d+$/)
  t.equal(refused.headers['ratelimit-policy'], '"signin";q=10;w=60, "signin-address";q=60;w=60')
  t.match(await signIn(web, 'ben', 'wrong'), { status: 401 }, 'other names are free')
  clock.advance(6_000)
  t.match(await signIn(web, 'ann', RIGHT), { status: 201 }, 'Retry-After was true')
})

t.test('right passwords do not count', async (t) => {
  const web = await startWeb(t, { overrides: { clock: manualClock(Date.now()) } })
  await web.person('ann')
  for (let i = 0; i < SIGN_IN_BY_NAME.quota + 2; i++) t.match(await signIn(web, 'ann', RIGHT), { status: 201 })
})

t.test('wrong passwords from one address, for many names', async (t) => {
  const web = await startWeb(t, { overrides: { clock: manualClock(Date.now()) } })
  const tries = Array.from({ length: SIGN_IN_BY_ADDRESS.quota + 1 }, (_, i) => signIn(web, `nobody_${i}`, 'wrong', '192.0.2.1'))
  const statuses = (await Promise.all(tries)).map((answer) => answer.status)
  t.equal(statuses.filter((status) => status === 401).length, SIGN_IN_BY_ADDRESS.quota)
  t.equal(statuses.filter((status) => status === 429).length, 1)
  t.match(await signIn(web, 'x_y', 'wrong', '192.0.2.2'), { status: 401 }, 'another address')
})

t.test('X-Forwarded-For counts from a trusted proxy only', async (t) => {
  const plain = await startWeb(t)
  const forged = await Promise.all([1, 2, 3].map((i) => signIn(plain, `a_${i}`, 'wrong', '192.0.2.1', `198.51.100.${i}`)))
  t.match(forged[2]?.headers['ratelimit'], /"signin-address";r=5[78]/)

  const proxied = await startWeb(t, { env: { TRUSTED_PROXIES: '192.0.2.0/24' } })
  const real = await Promise.all([1, 2, 3].map((i) => signIn(proxied, `a_${i}`, 'wrong', '192.0.2.1', `198.51.100.${i}`)))
  for (const answer of real) t.match(answer.headers['ratelimit'], /"signin-address";r=59/)
})

t.test('sign-ups from one address', async (t) => {
  const web = await startWeb(t, { overrides: { clock: manualClock(Date.now()) } })
  const send = () => web.send('POST', '/v1/accounts', { body: { username: '1', password: '1' } })
  const answers = await Promise.all(Array.from({ length: SIGN_UP_BY_ADDRESS.quota + 1 }, send))
  t.equal(answers.filter((answer) => answer.status === 400).length, SIGN_UP_BY_ADDRESS.quota)
  t.equal(answers.filter((answer) => answer.status === 429).length, 1)
})

async function signIn(web: TestWeb, username: string, password: string, address = '192.0.2.1', forwardedFor?: string) {
  const response = await web.app.inject({
    method: 'POST',
    url: '/v1/sessions',
    remoteAddress: address,
    payload: { username, password },
    ...(forwardedFor !== undefined && { headers: { 'x-forwarded-for': forwardedFor } }),
  })
  return { status: response.statusCode, headers: response.headers, body: response.json<{ code?: string }>() }
}
