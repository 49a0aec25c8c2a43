import t, { type Test } from 'tap'
import { sql } from 'kysely'
import type { AppRouter } from '#domain/database.ts'
import { reserveName } from '#domain/accounts/reservations.queries.ts'
import { sweepReservations } from '#domain/accounts/reservations.ts'
import { startWeb, type TestWeb } from './web-app.ts'

const ANN = { username: 'ann', password: 'correct horse', email: 'ann@example.org' }

t.test('of twenty sign-ups for one name at once, one wins', async (t) => {
  const web = await startWeb(t)
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => web.send('POST', '/v1/accounts', { body: { ...ANN, email: null } })),
  )
  t.equal(answers.filter((answer) => answer.status === 201).length, 1)
  t.equal(answers.filter((answer) => answer.body.code === 'username_taken').length, 19)
  t.equal(await countRows(web, 'accounts'), 1)
  t.equal(await countRows(web, 'sessions'), 1)
})

t.test('of twenty sign-ups for one address at once, one wins, and the other names are free again', async (t) => {
  const web = await startWeb(t)
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => web.send('POST', '/v1/accounts', { body: { ...ANN, username: `ann_${i}` } })),
  )
  t.equal(answers.filter((answer) => answer.status === 201).length, 1)
  t.equal(answers.filter((answer) => answer.body.code === 'email_taken').length, 19)
  t.equal(await countRows(web, 'usernames'), 1)
})

t.test('a crash after the reservation: the sweep frees the name, after its time', async (t) => {
  const web = await startWeb(t)
  const accountId = await web.context.ids.mint(7)
  await reserveName(web.context.router, { kind: 'username', name: 'ann', accountId })
  await reserveName(web.context.router, { kind: 'email', name: ANN.email, accountId })

  t.match(await web.send('POST', '/v1/accounts', { body: ANN }), { status: 409 })
  t.match(await web.send('GET', '/v1/accounts/ann'), { status: 404 }, 'a reservation is no account')
  t.strictSame(await sweepReservations(web.context), { claimed: 0, freed: 0 }, 'it may still be running')
  t.strictSame(await sweepReservations(web.context, 0), { claimed: 0, freed: 2 })
  t.match(await web.send('GET', `/v1/accounts/${accountId}`), { status: 404 }, 'nor is a void row')
  t.match(await web.send('POST', '/v1/accounts', { body: ANN }), { status: 201 })
  t.strictSame(await sweepReservations(web.context, 0), { claimed: 0, freed: 0 }, 'what is claimed is left alone')
})

t.test('a crash before the claim: the account is there at once, and the sweep claims its names', async (t) => {
  const web = await startWeb(t)
  t.match(await web.send('POST', '/v1/accounts', { body: ANN }), { status: 201 })
  await sql`update usernames set claimed_at = null`.execute(web.context.router.directory.primary)
  await sql`update emails set claimed_at = null`.execute(web.context.router.directory.primary)

  t.match(await web.send('POST', '/v1/sessions', { body: ANN }), { status: 201 })
  t.match(await web.send('GET', '/v1/accounts/ann'), { status: 200 })
  t.strictSame(await sweepReservations(web.context, 0), { claimed: 2, freed: 0 })
  t.match(await web.send('POST', '/v1/accounts', { body: ANN }), { status: 409 })
})

t.test('a sign-up so slow that the sweep overtook it fails, and leaves nothing', async (t) => {
  const web = await startWeb(t)
  const slow = await withAccountWrite(t, web, async (write) => {
    await sweepReservations({ router: web.context.router }, 0)
    return write()
  })
  t.match(await slow.send('POST', '/v1/accounts', { body: ANN }), { status: 503, body: { code: 'unavailable' } })
  t.match(await web.send('GET', '/v1/accounts/ann'), { status: 404 })
  t.match(await web.send('POST', '/v1/accounts', { body: ANN }), { status: 201 }, 'the names are free')
})

t.test('a COMMIT whose reply was lost: the account stands, with its names', async (t) => {
  const web = await startWeb(t)
  const unlucky = await withAccountWrite(t, web, async (write) => {
    await write()
    throw new Error('Connection terminated unexpectedly')
  })
  const answer = await unlucky.send('POST', '/v1/accounts', { body: ANN })
  t.match(answer, { status: 503, headers: { 'retry-after': String } })
  t.match(await web.send('POST', '/v1/sessions', { body: ANN }), { status: 201 })
  t.strictSame(await sweepReservations(web.context, 0), { claimed: 0, freed: 0 }, 'claimed already')
})

/** The same service with a fault in the transaction that makes the account: the third write, after both names. */
async function withAccountWrite(
  t: Test,
  web: TestWeb,
  fault: (write: () => Promise<unknown>) => Promise<unknown>,
): Promise<TestWeb> {
  let writes = 0
  const { router } = web.context
  const faulty: AppRouter = Object.create(router, {
    write: {
      value: (...[shard, work]: Parameters<AppRouter['write']>) => {
        writes++
        const write = (): Promise<unknown> => router.write(shard, work)
        return writes === 3 ? fault(write) : write()
      },
    },
  }) as AppRouter
  return startWeb(t, { overrides: { router: faulty } })
}

async function countRows(web: TestWeb, table: string): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`select count(*) from ${sql.table(table)}`.execute(
    web.context.router.directory.primary,
  )
  return Number(rows[0]?.count)
}
