import { connect } from 'node:net'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type CallOptions, type Photo, type Problem } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import {
  makeDamagedJpeg,
  makeJpegBomb,
  makeManyFrameGif,
  makePngBomb,
  makePolyglot,
  makeSvg,
  makeText,
  makeTooLarge,
  makeTruncatedJpeg,
} from '../support/hostile-pictures.ts'
import { startMonogram } from '../support/monogram.ts'

/** Bad input over HTTP: each gets the documented problem, none a 500, and the system goes on as if nothing had been. */
t.test('bad input', async (t) => {
  const monogram = await startMonogram(t)
  const api = apiClient(monogram.urls)
  const author = await api.signUp('author')
  const { token } = author
  const picture = await makePicture({ seed: 1, width: 320, height: 240 })

  const post = (options: CallOptions) => api.call<Problem>('POST', '/v1/photos', { token, ...options })
  const refused = (t: Test, answer: { status: number; headers: Headers; body: Problem }, status: number, code: string) => {
    t.match(answer, { status, body: { status, code, title: String, detail: String } }, code)
    t.match(answer.headers.get('content-type'), /^application\/problem\+json/)
  }

  await t.test('files that are no pictures, or too much of one', async (t) => {
    const files: [name: string, bytes: Uint8Array, status: number, code: string][] = [
      ['SVG', makeSvg(), 415, 'unsupported_media_type'],
      ['GIF of many frames', makeManyFrameGif(), 415, 'unsupported_media_type'],
      ['text', makeText(), 415, 'unsupported_media_type'],
      ['empty', Buffer.alloc(0), 415, 'unsupported_media_type'],
      ['PNG of 268 megapixels', await makePngBomb(), 422, 'too_many_pixels'],
      ['JPEG of too many pixels', await makeJpegBomb(), 422, 'too_many_pixels'],
      ['21 MB', await makeTooLarge(), 413, 'payload_too_large'],
    ]
    for (const [name, bytes, status, code] of files) {
      await t.test(name, async (t) => refused(t, await post({ form: uploadForm(bytes) }), status, code))
    }
  })

  await t.test('forms that are no uploads', async (t) => {
    const wrongField = new FormData()
    wrongField.set('picture', new Blob([Buffer.from(picture)]), 'photo.jpg')
    const twice = uploadForm(picture)
    twice.append('file', new Blob([Buffer.from(picture)]), 'again.jpg')
    const textAsFile = new FormData()
    textAsFile.set('file', 'not a file')
    for (const form of [wrongField, twice, textAsFile, new FormData()]) {
      refused(t, await post({ form }), 400, 'invalid_request')
    }
    refused(t, await post({}), 400, 'invalid_request')
    refused(t, await post({ json: { caption: 'no file' } }), 415, 'unsupported_media_type')
    refused(t, await post({ form: uploadForm(picture, 'x'.repeat(2_201)) }), 400, 'invalid_request')
    refused(t, await post({ form: uploadForm(picture, 'x'.repeat(100_000)) }), 400, 'invalid_request')
    const tags = Array.from({ length: 31 }, (_, i) => `#tag${i}`).join(' ')
    refused(t, await post({ form: uploadForm(picture, tags) }), 422, 'too_many_tags')
    for (const key of ['', 'with space', 'x'.repeat(256), 'ümlaut']) {
      const headers = { 'idempotency-key': Buffer.from(key).toString('latin1') }
      refused(t, await post({ form: uploadForm(picture), headers }), 400, 'invalid_request')
    }
    const headers = { 'content-type': 'multipart/form-data' }
    refused(t, await post({ headers }), 400, 'invalid_request')
  })

  await t.test('a body that ends too soon', async () => {
    const { port } = new URL(monogram.urls[0] ?? '')
    const socket = connect(Number(port), '127.0.0.1')
    socket.end(
      `POST /v1/photos HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\nconnection: close\r\n` +
        'content-type: multipart/form-data; boundary=b\r\ncontent-length: 60\r\n\r\n' +
        '--b\r\ncontent-disposition: form-data; name="file"; filename="x"',
    )
    socket.resume()
    await once(socket, 'close')
  })

  await t.test('nobody, or nobody we know', async (t) => {
    const form = () => uploadForm(picture)
    refused(t, await api.call('POST', '/v1/photos', { form: form() }), 401, 'unauthorized')
    for (const bad of ['nonsense', `${token}x`, token.slice(0, -1), token.replace(/.$/, (c) => (c === 'A' ? 'B' : 'A'))]) {
      refused(t, await api.call('POST', '/v1/photos', { form: form(), token: bad }), 401, 'unauthorized')
    }
    refused(t, await api.call('GET', '/v1/feed'), 401, 'unauthorized')
  })

  await t.test('ids, cursors, limits and addresses that name nothing', async (t) => {
    const ids = ['0', '-1', 'abc', '1.5', '007', '1', '9223372036854775807', '9223372036854775808', '9'.repeat(400), '%00', '..%2f']
    for (const id of ids) {
      for (const path of [`/v1/photos/${id}`, `/v1/accounts/${id}`, `/v1/accounts/${id}/photos`, `/v1/accounts/${id}/followers`]) {
        refused(t, await api.call('GET', path, { token }), 404, 'not_found')
      }
      refused(t, await api.call('PUT', `/v1/accounts/${id}/follow`, { token }), 404, 'not_found')
      refused(t, await api.call('DELETE', `/v1/photos/${id}`, { token }), 404, 'not_found')
    }
    for (const query of ['cursor=x', 'cursor=', `cursor=${'A'.repeat(5_000)}`, 'limit=0', 'limit=101', 'limit=x', 'limit=1.5']) {
      refused(t, await api.call('GET', `/v1/feed?${query}`, { token }), 400, 'invalid_request')
      refused(t, await api.call('GET', `/v1/accounts/${author.account.id}/photos?${query}`), 400, 'invalid_request')
    }
    for (const path of ['/v1', '/v1/nothing', '/v2/feed', '/media/', '/media/..%2f..%2fetc%2fpasswd', '/media/originals/1', '/%']) {
      const answer = await api.call<Problem>('GET', path)
      t.ok(answer.status === 404 || answer.status === 400, `${path}: ${answer.status}`)
      t.match(answer.headers.get('content-type'), /^application\/problem\+json/)
    }
  })

  await t.test('broken behind a good header: accepted, then failed with a reason', async (t) => {
    for (const [make, code] of [[makeTruncatedJpeg, 'truncated'], [makeDamagedJpeg, /undecodable|truncated/]] as const) {
      const photo = await api.upload(author, await make())
      t.equal(photo.status, 'processing')
      const failed = await eventually('the failure', async () => {
        const read = await api.ok<Photo>('GET', `/v1/photos/${photo.id}`, { token })
        return read.status === 'processing' ? undefined : read
      })
      t.match(failed, { status: 'failed', failure: { code, detail: String }, renditions: [] })
      t.equal((await api.call('GET', `/v1/photos/${photo.id}`)).status, 404, 'others do not see it')
    }
  })

  await t.test('a picture that is also something else loses that', async (t) => {
    const photo = await api.upload(author, await makePolyglot())
    const published = await eventually('publication', async () => {
      const read = await api.ok<Photo>('GET', `/v1/photos/${photo.id}`, { token })
      return read.status === 'published' ? read : undefined
    })
    for (const { url } of published.renditions) {
      const { headers, body } = await api.bytes(url)
      t.equal(headers.get('x-content-type-options'), 'nosniff')
      t.notOk(Buffer.from(body).includes('<script') || Buffer.from(body).includes('PK\u0005\u0006'))
    }
  })

  t.same(monogram.processes.web[0]?.log.filter(({ level }) => level === 'error' || level === 'fatal'), [], 'no error in the log')
  await api.upload(author, picture)
})
