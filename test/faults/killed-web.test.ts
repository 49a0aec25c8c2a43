import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type Person, type Photo, type Problem } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { inLanes } from '../support/in-lanes.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram, type Monogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'

/** So few at once that most are still to come when some were answered. */
const UPLOADS = 24
const UPLOADS_AT_ONCE = 6
const ANSWERED_BEFORE = 3

/** kill -9 of a web process: what it acknowledged is there, and a retry with the same key makes one photo. */
t.test('web is killed in the middle of an upload', async (t) => {
  const monogram = await startMonogram(t, { counts: { 'web': 2, 'id-allocator': 0 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const [, surviving = ''] = monogram.urls
  const api = apiClient([surviving])
  const author = await api.signUp('author')
  const picture = await makePicture({ seed: 1, width: 1600, height: 1200 })

  const cut = await beginUpload(monogram, author, picture, 'the-key')
  const [victim] = monogram.processes.web
  t.same(await victim?.kill('SIGKILL'), { code: null, signal: 'SIGKILL' })
  await cut.closed
  t.equal((await db.selectFrom('photos').select('id').execute()).length, 0, 'nothing was acknowledged, nothing is there')

  const photo = await eventually('the retry', async () => {
    const answer = await api.call<Photo & Problem>('POST', '/v1/photos', {
      token: author.token,
      form: uploadForm(picture),
      headers: { 'idempotency-key': 'the-key' },
    })
    if (answer.status === 202) return answer.body
    t.match(answer, { status: 409, body: { code: 'idempotency_in_progress' } })
    t.match(answer.headers.get('retry-after'), /^[1-9]\d*$/)
    return undefined
  })
  const again = await api.upload(author, picture, { key: 'the-key' })
  t.same(again, photo, 'the same key, the same answer')
  await assertInvariants(t, monogram, db, { photos: [photo.id] })
})

t.test('web is killed under load: every acknowledged upload is there, every retried one once', async (t) => {
  const monogram = await startMonogram(t, { counts: { 'web': 2, 'id-allocator': 0 } })
  const db = openDatabase(t, monogram.databaseUrl)
  const [doomed = '', surviving = ''] = monogram.urls
  const steady = apiClient([surviving])
  const author = await steady.signUp('author')
  const picture = await makePicture({ seed: 2, width: 480, height: 360 })
  const first = apiClient([doomed])

  let answered = 0
  const photos: Photo[] = []
  await inLanes([...Array(UPLOADS).keys()], UPLOADS_AT_ONCE, async (index) => {
    const options = { key: `upload-${index}` }
    const answer = await first.upload(author, picture, options).catch(() => undefined)
    if (answer !== undefined && ++answered === ANSWERED_BEFORE) await monogram.processes.web[0]?.kill('SIGKILL')
    const retry = (): Promise<Photo | undefined> => steady.upload(author, picture, options).catch(onlyInProgress)
    photos.push(answer ?? (await eventually(`the retry of ${options.key}`, retry)))
  })
  t.equal(photos.length, UPLOADS)
  t.ok(answered < UPLOADS, `${answered} were answered before`)
  await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
})

function onlyInProgress(error: unknown): undefined {
  if (!String(error).includes('idempotency_in_progress')) throw error
}

/** Sends half of an upload and waits until its bytes reach the disk. */
async function beginUpload(
  monogram: Monogram,
  author: Person,
  picture: Uint8Array,
  key: string,
): Promise<{ closed: Promise<unknown> }> {
  const request = new Request('http://upload/', { method: 'POST', body: uploadForm(picture) })
  const body = new Uint8Array(await request.arrayBuffer())
  const { port } = new URL(monogram.urls[0] ?? '')
  const socket = connect(Number(port), '127.0.0.1')
  socket.on('error', () => undefined)
  const closed = once(socket, 'close')
  socket.write(
    `POST /v1/photos HTTP/1.1\r\nhost: monogram\r\nauthorization: Bearer ${author.token}\r\nidempotency-key: ${key}\r\n` +
      `content-type: ${request.headers.get('content-type') ?? ''}\r\ncontent-length: ${body.length}\r\n\r\n`,
  )
  socket.write(body.subarray(0, body.length / 2))
  await eventually('bytes on the disk', async () => {
    const temporaries = await readdir(join(monogram.blobDirectory, '.tmp')).catch(() => [])
    return temporaries.length > 0 ? true : undefined
  })
  return { closed }
}
