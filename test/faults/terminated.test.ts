import { sql } from 'kysely'
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'

const LEFT_WELL = { code: 0, signal: null }

/** SIGTERM in mid-work, sent twice: what runs is finished or handed back, and the process leaves with 0. */
for (const [type, queue] of [['thumbnail-worker', 'thumbnail'], ['safety-worker', 'safety'], ['fanout-worker', 'fanout']] as const) {
  t.test(`${type} leaves with a job in hand`, async (t) => {
    const monogram = await startMonogram(t, { counts: { 'id-allocator': 0 } })
    const db = openDatabase(t, monogram.databaseUrl)
    const api = apiClient(monogram.urls)
    const author = await api.signUp('author')
    const reader = await api.signUp('reader')
    await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
    const picture = await makePicture({ seed: 1, width: 1600, height: 1200 })
    const photos = await Promise.all([1, 2, 3, 4].map(() => api.upload(author, picture)))
    await eventually(`a ${queue} job in hand`, async () => {
      const { rows } = await sql`select from outbox where queue = ${queue} and claim_token is not null
        union all select from photos where fanned_out_at is not null`.execute(db)
      return rows.length > 0 ? true : undefined
    })
    const [leaving] = monogram.processes[type]
    const left = leaving?.kill('SIGTERM')
    void leaving?.kill('SIGTERM')
    t.same(await left, LEFT_WELL)
    const { rows } = await sql`select from outbox where queue = ${queue} and claim_token is not null`.execute(db)
    t.same(rows, [], 'nothing is left claimed')

    await monogram.start(type)
    await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
    const again = await sql<{ n: number }>`select coalesce(max(attempts), 0)::int as n from outbox`.execute(db)
    t.equal(again.rows[0]?.n, 0)
  })
}

t.test('web leaves in the middle of an upload, which is still answered', async (t) => {
  const monogram = await startMonogram(t, { counts: { 'web': 2, 'id-allocator': 0 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const [leavingUrl = '', stayingUrl = ''] = monogram.urls
  const author = await apiClient([stayingUrl]).signUp('author')
  const picture = await makePicture({ seed: 2, width: 800, height: 600 })

  const request = new Request('http://upload/', { method: 'POST', body: uploadForm(picture) })
  const body = new Uint8Array(await request.arrayBuffer())
  const socket = connect(Number(new URL(leavingUrl).port), '127.0.0.1')
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.write(
    `POST /v1/photos HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${author.token}\r\n` +
      `content-type: ${request.headers.get('content-type') ?? ''}\r\ncontent-length: ${body.length}\r\n\r\n`,
  )
  socket.write(body.subarray(0, body.length / 2))
  const idle = connect(Number(new URL(leavingUrl).port), '127.0.0.1')
  await once(idle, 'connect')

  const left = monogram.processes.web[0]?.kill('SIGTERM')
  await eventually('readiness to say so', async () => {
    const answer = await fetch(`${leavingUrl}/readyz`).catch(() => ({ status: 0 }))
    return answer.status === 503 || answer.status === 0 ? true : undefined
  })
  socket.write(body.subarray(body.length / 2))
  await once(socket, 'close')
  const answer = Buffer.concat(chunks).toString()
  t.match(answer, /^HTTP\/1\.1 202 /)
  t.match(answer, /\r\nconnection: close\r\n/i)
  t.same(await left, LEFT_WELL)
  const [, id = ''] = /"id":"(\d+)"/.exec(answer) ?? []
  await assertInvariants(t, monogram, db, { photos: [id] })
})

t.test('web leaves in its time though an upload never ends', async (t) => {
  const monogram = await startMonogram(t, { counts: { 'web': 1, 'thumbnail-worker': 0, 'safety-worker': 0, 'id-allocator': 0 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const [url = ''] = monogram.urls
  const author = await apiClient(monogram.urls).signUp('author')
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => undefined).resume()
  const ended = once(socket, 'close')
  socket.write(
    `POST /v1/photos HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${author.token}\r\nidempotency-key: slow\r\n` +
      'content-type: multipart/form-data; boundary=b\r\ncontent-length: 1000\r\n\r\n' +
      '--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n',
  )
  await eventually('the upload to begin', async () => {
    const { rows } = await sql`select from idempotency_keys where key = 'slow'`.execute(db)
    return rows.length > 0 ? true : undefined
  })
  t.same(await monogram.processes.web[0]?.kill('SIGTERM'), LEFT_WELL)
  await ended
  const { rows } = await sql`select from photos`.execute(db)
  t.same(rows, [])
})

t.test('everything leaves at once, and everything is there when it comes back', async (t) => {
  const monogram = await startMonogram(t)
  const db = openDatabase(t, monogram.databaseUrl)
  const author = await apiClient(monogram.urls).signUp('author')
  const picture = await makePicture({ seed: 3, width: 1200, height: 900 })
  const photos = await Promise.all([1, 2, 3, 4, 5].map(() => apiClient(monogram.urls).upload(author, picture)))
  const all = Object.values(monogram.processes).flat()
  t.same(await Promise.all(all.map((one) => one.kill('SIGTERM'))), all.map(() => LEFT_WELL))
  for (const type of ['web', 'thumbnail-worker', 'safety-worker', 'fanout-worker', 'id-allocator'] as const) {
    await monogram.start(type)
  }
  await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
})
