import { sql } from 'kysely'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type Person } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { PROCESS_TYPES } from '../support/processes.ts'

/**
 * Row 17 of the faults: SIGTERM in mid-work, sent twice. What runs is finished or handed back, and the process leaves
 * with 0. All of it on one system, one process after the other.
 */
const LEFT_WELL = { code: 0, signal: null }
const JOBS = [['thumbnail-worker', 'thumbnail'], ['safety-worker', 'safety'], ['fanout-worker', 'fanout']] as const

const monogram = await startMonogram(t, { counts: { web: 3 } })
const db = openDatabase(t, monogram.databaseUrl)
const { processes } = monogram
const [stayingUrl = '', leavingUrl = '', stuckUrl = ''] = monogram.urls
const [, leavingWeb, stuckWeb] = processes.web
const api = apiClient([stayingUrl])
const [author, reader] = [await api.signUp('author'), await api.signUp('reader')]
await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
const ids: string[] = []

// It takes the time that a process has: the others leave meanwhile.
const endless = await beginUpload(stuckUrl, author, { 'idempotency-key': 'slow' }, { type: 'multipart/form-data; boundary=b', bytes: 1_000 })
endless.socket.write('--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n')
await eventually('the endless upload to begin', async () => {
  const { rows } = await sql`select from idempotency_keys where key = 'slow'`.execute(db)
  return rows.length > 0 ? true : undefined
})
const stuckLeft = stuckWeb?.kill('SIGTERM')

t.test('web leaves in the middle of an upload, which is still answered', async (t) => {
  const picture = await makePicture({ seed: 2, width: 800, height: 600 })
  const request = new Request('http://upload/', { method: 'POST', body: uploadForm(picture) })
  const body = new Uint8Array(await request.arrayBuffer())
  const { socket, answer } = await beginUpload(leavingUrl, author, {}, { type: request.headers.get('content-type') ?? '', bytes: body.length })
  socket.write(body.subarray(0, body.length / 2))
  const idle = connect(Number(new URL(leavingUrl).port), '127.0.0.1')
  await once(idle, 'connect')

  const left = leavingWeb?.kill('SIGTERM')
  await eventually('readiness to say so', async () => {
    const { status } = await fetch(`${leavingUrl}/readyz`).catch(() => ({ status: 0 }))
    return status === 503 || status === 0 ? true : undefined
  })
  socket.write(body.subarray(body.length / 2))
  const text = await answer
  t.match(text, /^HTTP\/1\.1 202 /)
  t.match(text, /\r\nconnection: close\r\n/i)
  t.same(await left, LEFT_WELL)
  ids.push(/"id":"(\d+)"/.exec(text)?.[1] ?? '')
  await assertInvariants(t, monogram, db, { photos: ids })
})

for (const [type, queue] of JOBS) {
  t.test(`${type} leaves with a job in hand`, async (t) => {
    const picture = await makePicture({ seed: 1, width: 1600, height: 1200 })
    const photos = await Promise.all([1, 2, 3, 4].map(() => api.upload(author, picture)))
    ids.push(...photos.map(({ id }) => id))
    const news = photos.map(({ id }) => BigInt(id))
    await eventually(`a ${queue} job in hand`, async () => {
      const { rows } = await sql`select from outbox where queue = ${queue} and claim_token is not null
        union all select from photos where fanned_out_at is not null and id = any(${news})`.execute(db)
      return rows.length > 0 ? true : undefined
    })
    const leaving = processes[type].shift()
    const left = leaving?.kill('SIGTERM')
    void leaving?.kill('SIGTERM')
    t.same(await left, LEFT_WELL)
    const { rows } = await sql`select from outbox where queue = ${queue} and claim_token is not null`.execute(db)
    t.same(rows, [], 'nothing is left claimed')

    await monogram.start(type)
    await assertInvariants(t, monogram, db, { photos: ids })
    const again = await sql<{ n: number }>`select coalesce(max(attempts), 0)::int as n from outbox`.execute(db)
    t.equal(again.rows[0]?.n, 0)
  })
}

t.test('web leaves in its time though an upload never ends', async (t) => {
  t.same(await stuckLeft, LEFT_WELL)
  await endless.answer
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from photos`.execute(db)
  t.equal(rows[0]?.n, ids.length, 'of which nothing has become')
})

t.test('everything leaves at once, and everything is there when it comes back', async (t) => {
  const picture = await makePicture({ seed: 3, width: 1200, height: 900 })
  const photos = await Promise.all([1, 2, 3, 4, 5].map(() => api.upload(author, picture)))
  ids.push(...photos.map(({ id }) => id))
  const all = [...processes.web.slice(0, 1), ...PROCESS_TYPES.filter((type) => type !== 'web').flatMap((type) => processes[type])]
  t.same(await Promise.all(all.map((one) => one.kill('SIGTERM'))), all.map(() => LEFT_WELL))
  await Promise.all(PROCESS_TYPES.map((type) => monogram.start(type)))
  await assertInvariants(t, monogram, db, { photos: ids })
})

interface BegunUpload {
  socket: Socket
  /** All that was answered, once the connection is closed. */
  answer: Promise<string>
}

/** Sends the head of an upload. */
async function beginUpload(
  url: string,
  { token }: Person,
  headers: Record<string, string>,
  body: { type: string; bytes: number },
): Promise<BegunUpload> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  const chunks: Buffer[] = []
  socket.on('error', () => undefined).on('data', (chunk) => chunks.push(chunk))
  const answer = once(socket, 'close').then(() => Buffer.concat(chunks).toString())
  const lines = Object.entries({ host: 'x', authorization: `Bearer ${token}`, ...headers, 'content-type': body.type, 'content-length': body.bytes })
  socket.write(`POST /v1/photos HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`)
  await once(socket, 'connect')
  return { socket, answer }
}
