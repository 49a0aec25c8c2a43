import { sql } from 'kysely'
import t from 'tap'
import { firstIdAt } from '#kernel/snowflake.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'

const DAY_MS = 24 * 60 * 60 * 1_000
const AUTHORS = 3
const PHOTOS = 18

/**
 * The scroll goes to the very end, past the oldest partition of stored entries. Half of the photos are given
 * publication dates of up to ten months ago, for which no entry is kept, as if they had been there all the time.
 */
t.test('a feed goes on to the very end, past what is stored', async (t) => {
  const monogram = await startMonogram(t)
  const db = openDatabase(t, monogram.databaseUrl)
  const api = apiClient(monogram.urls)
  const reader = await api.signUp('reader')
  const authors = await Promise.all(Array.from({ length: AUTHORS }, (_, i) => api.signUp(`author_${i}`)))
  for (const { account } of authors) await api.ok('PUT', `/v1/accounts/${account.id}/follow`, { token: reader.token })

  const picture = await makePicture({ seed: 1, width: 200, height: 150 })
  const photos = await Promise.all(
    Array.from({ length: PHOTOS }, (_, i) => api.upload(authors[i % AUTHORS] ?? reader, picture, { caption: `${i}` })),
  )
  await eventually('publication of all', async () => {
    const feed = await api.all<Photo>('/v1/feed', { token: reader.token })
    return feed.length === PHOTOS ? true : undefined
  })
  await eventually('an empty outbox', async () => {
    const { rows } = await sql`select from outbox limit 1`.execute(db)
    return rows.length === 0 ? true : undefined
  })

  const old = photos.slice(0, PHOTOS / 2)
  for (const [i, photo] of old.entries()) {
    const publishedId = firstIdAt(Date.now() - (85 + i * 25) * DAY_MS)
    const id = BigInt(photo.id)
    await db.transaction().execute(async (trx) => {
      await sql`delete from feed_entries where photo_id = ${id}`.execute(trx)
      await sql`update photos set published_id = ${publishedId | (id & ((1n << 23n) - 1n))} where id = ${id}`.execute(trx)
      // What is younger than the retention has its entry; what is older has lost it with its partition.
      await sql`insert into feed_entries (account_id, published_id, photo_id)
        select ${BigInt(reader.account.id)}::bigint, published_id, id from photos
        where id = ${id} and published_id > ${firstIdAt(Date.now() - 89 * DAY_MS)}`.execute(trx)
    })
  }

  const rows = await db.selectFrom('photos').select(['id']).orderBy('published_id', 'desc').execute()
  const expected = rows.map(({ id }) => id.toString())
  for (const limit of [1, 4, 7, 30, 100]) {
    const feed = await api.all<Photo>('/v1/feed', { token: reader.token, limit })
    t.same(feed.map(({ id }) => id), expected, `in pages of ${limit}`)
  }
  await api.ok('DELETE', `/v1/accounts/${authors[0]?.account.id ?? ''}/follow`, { token: reader.token })
  const left = await api.all<Photo>('/v1/feed', { token: reader.token, limit: 2 })
  t.same(
    left.map(({ id }) => id),
    expected.filter((id) => photos.find((photo) => photo.id === id)?.account.id !== authors[0]?.account.id),
    'without an author unfollowed, every page is still full',
  )
})
