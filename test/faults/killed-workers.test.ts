import { sql } from 'kysely'
import t from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type Account, type Person } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'

/** kill -9 of a worker that holds jobs: whoever comes next finishes them, once. */
const UPLOADS = 6

for (const [type, queue] of [['thumbnail-worker', 'thumbnail'], ['safety-worker', 'safety']] as const) {
  t.test(`${type} is killed with a job in hand`, async (t) => {
    const monogram = await startMonogram(t, { counts: { 'id-allocator': 0 } })
    const db = openDatabase(t, monogram.databaseUrl)
    const api = apiClient(monogram.urls)
    const author = await api.signUp('author')
    const reader = await api.signUp('reader')
    await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })

    const picture = await makePicture({ seed: 1, width: 2400, height: 1800 })
    const photos = await Promise.all(Array.from({ length: UPLOADS }, () => api.upload(author, picture)))
    await eventually(`a ${queue} job in hand`, async () => {
      const { rows } = await sql`select from outbox where queue = ${queue} and claim_token is not null`.execute(db)
      return rows.length > 0 ? true : undefined
    })
    const [victim] = monogram.processes[type]
    t.same(await victim?.kill('SIGKILL'), { code: null, signal: 'SIGKILL' })
    const { rows } = await sql`select from outbox where queue = ${queue} and claim_token is not null`.execute(db)
    t.ok(rows.length > 0, 'it died with a job in hand')

    await monogram.start(type)
    await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
  })
}

t.test('fanout-worker is killed between two pages of followers', async (t) => {
  const followers = 60_000
  const monogram = await startMonogram(t, { counts: { 'id-allocator': 0 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const api = apiClient(monogram.urls)
  const author = await api.signUp('author')
  await followInBulk(author.account, followers)
  const photo = await api.upload(author, await makePicture({ seed: 2, width: 320, height: 240 }))

  // Holding the cursor's row stops the fan-out in the middle: its next page commits together with that row.
  await db.transaction().execute(async (trx) => {
    await eventually('a page that has committed', async () => {
      const { rows } = await sql`select from fanout_cursors where last_follower_id > 0 for update`.execute(trx)
      return rows.length > 0 ? true : undefined
    })
    const [victim] = monogram.processes['fanout-worker']
    t.same(await victim?.kill('SIGKILL'), { code: null, signal: 'SIGKILL' })
    const { rows } = await sql<{ n: number }>`select count(*)::int as n from feed_entries`.execute(trx)
    const written = rows[0]?.n ?? 0
    t.ok(written > 0 && written < followers, `it died after ${written} of ${followers} entries`)
  })

  await monogram.start('fanout-worker')
  await assertInvariants(t, monogram, db, { photos: [photo.id] })
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from feed_entries`.execute(db)
  t.equal(rows[0]?.n, followers)

  /** Followers whose accounts never signed up: the fan-out reads the follows alone. */
  async function followInBulk(account: Account, count: number): Promise<void> {
    await sql`insert into follows (follower_id, followee_id, id, backfilled_at)
      select (n << 23), ${BigInt(account.id)}::bigint, (n << 23), now() from generate_series(1, ${count}::bigint) n`.execute(db)
  }
})

t.test('id-allocator is killed while ids are minted', async (t) => {
  const monogram = await startMonogram(t, { counts: { 'id-allocator': 2 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const api = apiClient(monogram.urls)
  const people: Person[] = []
  const [first, second] = monogram.processes['id-allocator']
  for (let i = 0; i < 9; i++) {
    if (i === 3) await first?.kill('SIGKILL')
    if (i === 6) await second?.kill('SIGKILL')
    people.push(await api.signUp(`person_${i}`))
  }
  await monogram.start('id-allocator')
  const picture = await makePicture({ seed: 3, width: 320, height: 240 })
  const photos = await Promise.all(people.map((person) => api.upload(person, picture)))
  t.equal(new Set([...photos, ...people.map(({ account }) => account)].map(({ id }) => id)).size, 18, 'no id twice')
  await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
})
