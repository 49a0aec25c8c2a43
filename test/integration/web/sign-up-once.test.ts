import { randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import type { AppRouter } from '#domain/database.ts'
import { sweepReservations } from '#domain/accounts/reservations.ts'
import { KEY_LIFE_MS } from '#domain/idempotency/idempotency.queries.ts'
import { createHouseKeeper } from '#platform/lifecycle/house-keeper.ts'
import { chores } from '../../../services/fanout-worker/chores.ts'
import { startWeb, type Answer, type TestWeb } from './web-app.ts'

const ANN = { username: 'ann', password: 'correct horse', email: 'ann@example.org' }
const SECRET_KEY = randomBytes(32).toString('hex')
/** Writes of a sign-up with a key and an address: key, two names, account, two claims, answer. */
const WRITES = 7

function signUp(web: TestWeb, body: object = ANN, key = 'the-key'): Promise<Answer> {
  return web.send('POST', '/v1/accounts', { body, headers: { 'idempotency-key': key } })
}

t.test('the same request gives the same account and a token of its own', async (t) => {
  const web = await startWeb(t, { twoNodes: true })
  const answers = [await signUp(web), await signUp(web), await signUp(web, { ...ANN, username: 'ANN' })]
  for (const answer of answers) {
    t.match(answer, { status: 201, headers: { location: `/v1/accounts/${answers[0]?.body.account?.id ?? ''}` } })
    t.same(answer.body.account, answers[0]?.body.account)
    const me = await web.send('GET', '/v1/me', { as: { token: answer.body.token ?? '' } })
    t.match(me, { status: 200, body: { username: 'ann' } })
  }
  t.equal(new Set(answers.map(({ body }) => body.token)).size, 3)
  t.same(await active(web), ['ann'])
  t.match(await signUp(web, ANN, 'another-key'), { status: 409, body: { code: 'username_taken' } })
})

t.test('a hundred at once make one account', async (t) => {
  const web = await startWeb(t)
  const answers = await Promise.all(Array.from({ length: 100 }, () => signUp(web)))
  const made = answers.filter(({ status }) => status === 201)
  t.ok(made.length >= 1)
  t.equal(new Set(made.map(({ body }) => body.account?.id)).size, 1)
  for (const answer of answers.filter(({ status }) => status !== 201)) {
    t.match(answer, { status: 409, body: { code: 'idempotency_in_progress' }, headers: { 'retry-after': /^[1-9]\d*$/ } })
  }
  t.same(await active(web), ['ann'])
  t.match(await signUp(web), { status: 201, body: { account: { id: made[0]?.body.account?.id } } })
})

t.test('another request with a known key learns nothing, whether the first is done or not', async (t) => {
  const web = await startWeb(t)
  await signUp(web)
  const others = [
    { ...ANN, password: 'wrong horse' },
    { ...ANN, username: 'ben' },
    { ...ANN, email: 'ben@example.org' },
    { ...ANN, displayName: 'Ann B.' },
    { username: 'ben', password: 'of a stranger' },
  ]
  const seen = new Set<string>()
  for (const status of ['done', 'running']) {
    if (status === 'running') await directory(web, sql`update anonymous_idempotency_keys set status = null, locked_until = now() + interval '5 s'`)
    for (const other of others) {
      const answer = await signUp(web, other)
      t.match(answer, { status: 422, body: { code: 'idempotency_mismatch' } })
      seen.add(answer.text.replaceAll(/"requestId":"[^"]+"/g, ''))
    }
  }
  t.equal(seen.size, 1, 'always the same')
  t.same(await active(web), ['ann'])
  const stored = JSON.stringify(await directory(web, sql`select * from anonymous_idempotency_keys`), (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  )
  t.notMatch(stored, /horse|ann/, 'of the request there is only its keyed hash')
})

t.test('a refusal is kept; what breaks a rule is not', async (t) => {
  const web = await startWeb(t)
  const holder = await web.person('ann')
  t.match(await signUp(web, { ...ANN, password: 'short' }), { status: 400 })
  for (let i = 0; i < 2; i++) {
    const refused = await signUp(web)
    t.match(refused, { status: 409, body: { code: 'username_taken', errors: [{ path: '/body/username' }] } })
    await directory(web, sql`delete from usernames where account_id = ${BigInt(holder.id)}`)
  }
  t.match(await signUp(web, ANN, 'a-new-key'), { status: 201 })
  t.match(await signUp(web, ANN, 'a b'), { status: 400, body: { errors: [{ path: '/headers/idempotency-key' }] } })
})

t.test('an address that is taken frees the username again', async (t) => {
  const web = await startWeb(t)
  await signUp(web)
  t.match(await signUp(web, { ...ANN, username: 'ben' }, 'key-2'), { status: 409, body: { code: 'email_taken' } })
  t.match(await signUp(web, { ...ANN, username: 'ben', email: 'ben@example.org' }, 'key-3'), { status: 201 })
})

t.test('a password that was changed since is not passed by', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await signUp(web), await web.person('ben')]
  await directory(web, sql`update credentials set password_hash = (select password_hash from credentials where account_id = ${BigInt(ben.id)})
    where account_id = ${BigInt(ann.body.account?.id ?? 0)}`)
  t.match(await signUp(web), { status: 401, body: { code: 'unauthorized' } })
})

for (let step = 2; step <= WRITES; step++) {
  for (const isSwept of [false, true]) {
    t.test(`a crash before write ${step}${isSwept ? ', and the sweep' : ''}: a retry makes one account`, async (t) => {
      const web = await startWeb(t, { env: { SECRET_KEY } })
      const doomed = await withWrites(t, web, (number, write) => (number < step ? write() : Promise.reject(new Error('crashed'))))
      await signUp(doomed)
      t.match(await signUp(web), { status: 409, body: { code: 'idempotency_in_progress' } }, 'it may be slow')
      t.match(await signUp(web, { ...ANN, password: 'wrong horse' }), { status: 422 })
      await directory(web, sql`update anonymous_idempotency_keys set locked_until = now()`)
      if (isSwept) await sweepReservations(web.context, 0)

      const answer = await insist(web)
      t.match(answer, { status: 201, body: { account: { username: 'ann' } } })
      t.match(await signUp(web), { status: 201, body: { account: { id: answer.body.account?.id } } })
      await sweepReservations(web.context, 0)
      t.same(await active(web), ['ann'])
      t.match(await web.send('GET', '/v1/accounts/ann'), { status: 200, body: { id: answer.body.account?.id } })
      t.match(await web.send('POST', '/v1/sessions', { body: ANN }), { status: 201 })
      t.same(await directory(web, sql`select from usernames, emails where usernames.claimed_at is null or emails.claimed_at is null`), [])
    })
  }
}

t.test('a sign-up so slow that its retry overtook it: both give the one account, or say to try again', async (t) => {
  const web = await startWeb(t, { env: { SECRET_KEY } })
  for (const step of [2, 3, 4, 5]) {
    const person = { username: `slow_${step}`, password: 'correct horse', email: `slow_${step}@example.org` }
    let retried: Answer | undefined
    const slow = await withWrites(t, web, async (number, write) => {
      if (number === step) {
        await directory(web, sql`update anonymous_idempotency_keys set locked_until = now() where status is null`)
        retried = await signUp(web, person, person.username)
      }
      return write()
    })
    const answer = await signUp(slow, person, person.username)
    t.match(retried, { status: 201 })
    if (answer.status !== 201) t.match(answer, { status: 503, headers: { 'retry-after': '1' } })
    else t.equal(answer.body.account?.id, retried?.body.account?.id)
    t.match(await signUp(web, person, person.username), { status: 201, body: { account: { id: retried?.body.account?.id } } })
  }
  t.same(await active(web), ['slow_2', 'slow_3', 'slow_4', 'slow_5'])
})

t.test('a fault that is told to the client is not kept', async (t) => {
  const web = await startWeb(t, { env: { SECRET_KEY } })
  const unlucky = await withWrites(t, web, (number, write) => (number === 4 ? Promise.reject(new Error('no luck')) : write()))
  t.match(await signUp(unlucky), { status: 500 })
  t.same(await directory(web, sql`select from anonymous_idempotency_keys`), [])
  t.match(await signUp(web, { ...ANN, displayName: 'Ann' }), { status: 201 }, 'not even as a mismatch')
})

t.test('after 24 hours the key is new', async (t) => {
  const web = await startWeb(t)
  await signUp(web)
  await signUp(web, { username: 'ben', password: 'correct horse' }, 'young')
  await directory(web, sql`update anonymous_idempotency_keys set created_at = now() - ${KEY_LIFE_MS + 1_000} * interval '1 ms'
    where key = 'the-key'`)
  const keeper = createHouseKeeper(chores(web.context), web.context.log)
  await keeper.runOnce()
  await keeper.close()
  t.same(await directory(web, sql`select key from anonymous_idempotency_keys`), [{ key: 'young' }])
  t.match(await signUp(web), { status: 409, body: { code: 'username_taken' } })
})

/** The same service on the same database, with each write counted from 1 on and in the hands of `each`. */
async function withWrites(
  t: Test,
  web: TestWeb,
  each: (number: number, write: () => Promise<unknown>) => Promise<unknown>,
): Promise<TestWeb> {
  let writes = 0
  const { router } = web.context
  const faulty = Object.create(router, {
    write: { value: (...[shard, work]: Parameters<AppRouter['write']>) => each(++writes, () => router.write(shard, work)) },
  }) as AppRouter
  return startWeb(t, { overrides: { router: faulty }, env: { SECRET_KEY } })
}

/** Does as it is told: a 503 is tried again. */
async function insist(web: TestWeb): Promise<Answer> {
  const answer = await signUp(web)
  return answer.status === 503 ? signUp(web) : answer
}

async function active(web: TestWeb): Promise<string[]> {
  const nodes = web.context.router.nodes.map(({ primary }) =>
    primary.selectFrom('accounts').select('username').where('status', '=', 'active').execute(),
  )
  return (await Promise.all(nodes)).flat().map((row) => row.username).toSorted()
}

async function directory(web: TestWeb, statement: ReturnType<typeof sql>): Promise<unknown[]> {
  return (await statement.execute(web.context.router.directory.primary)).rows
}
