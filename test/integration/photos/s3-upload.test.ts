import t, { type Test } from 'tap'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type ApiClient, type Photo, type Problem } from '../../support/api-client.ts'
import { startFaultProxy } from '../../support/fault-proxy.ts'
import { startTestS3 } from '../../support/s3.ts'
import { startWeb, type TestWeb } from '../web/web-app.ts'

/** Uploads and media over HTTP with the blobs in S3, also while that is away (FAULTS 19). */
const picture = await makePicture({ seed: 1, width: 320, height: 240 })
const KEY = `media/1/${'0'.repeat(32)}/small.jpg`

const s3 = await startTestS3(t)
const proxy = await startFaultProxy(t, s3.port)

async function serve(t: Test): Promise<{ api: ApiClient; web: TestWeb; url: string }> {
  const web = await startWeb(t, { env: s3.environmentAt({ port: proxy.port, prefix: 'photos' }) })
  const url = await web.app.listen({ port: 0, host: '127.0.0.1' })
  return { api: apiClient([url]), web, url }
}

t.test('an upload while S3 is down is a problem that says when to try again, and leaves no photo', async (t) => {
  const { api, web } = await serve(t)
  const ada = await api.signUp('ada')
  const post = (): Promise<{ status: number; body: Photo & Problem; headers: Headers }> =>
    api.call('POST', '/v1/photos', { token: ada.token, form: uploadForm(picture), headers: { 'idempotency-key': 'one' } })
  const photos = () => web.context.router.directory.primary.selectFrom('photos').select('id').execute()

  for (const [status, code, answer] of [
    [503, 'SlowDown', { status: 503, body: { code: 'unavailable' } }],
    [500, 'InternalError', { status: 503, body: { code: 'unavailable' } }],
    [507, 'XMinioStorageFull', { status: 507, body: { code: 'insufficient_storage' } }],
  ] as const) {
    s3.refuse(({ method }) => (method === 'PUT' ? { status, code } : null))
    const refused = await post()
    t.match(refused, answer, code)
    if (answer.status === 503) t.equal(refused.headers.get('retry-after'), '5')
    s3.refuse(null)
  }
  for (const kind of ['refuse', 'black-hole'] as const) {
    proxy.set({ kind })
    t.match(await post(), { status: 503, body: { code: 'unavailable' } }, kind)
    proxy.set({ kind: 'refuse' })
    proxy.set({ kind: 'none' })
  }
  t.same(await photos(), [])

  const accepted = await post()
  t.match(accepted, { status: 202, body: { status: 'processing' } }, 'the same key works once S3 is back')
  t.same(await photos(), [{ id: BigInt(accepted.body.id) }])
  t.ok(s3.requests.some((line) => line.startsWith(`PUT /monogram/photos/originals/${accepted.body.id}/`)))
})

t.test('media lead to a signed URL, and to the same 404 as ever', async (t) => {
  const { web, url } = await serve(t)
  await web.context.blobs.put(KEY, picture, { contentType: 'image/jpeg' })

  const shown = await fetch(`${url}/${KEY}`, { redirect: 'manual' })
  t.equal(shown.status, 302)
  t.equal(shown.headers.get('cache-control'), 'private, max-age=600')
  t.equal(shown.headers.get('x-content-type-options'), 'nosniff')
  const target = new URL(shown.headers.get('location') ?? '')
  t.ok(Number(target.searchParams.get('X-Amz-Expires')) > 600, 'a kept redirect is never older than its signature')
  const { headers } = await fetch(url)
  t.match(headers.get('content-security-policy'), `img-src 'self' data: ${target.origin};`, 'the web page may show it')

  const followed = await fetch(`${url}/${KEY}`, { headers: { range: 'bytes=0-9' } })
  t.match(followed, { status: 206 })
  t.same(Buffer.from(await followed.arrayBuffer()), picture.subarray(0, 10))
  const head = await fetch(`${url}/${KEY}`, { method: 'HEAD' })
  t.match(head, { status: 200 })
  t.equal(head.headers.get('content-length'), String(picture.length))

  for (const key of [KEY.replace('small', 'large'), 'originals/1/original.jpg', 'media/%2e%2e/1']) {
    const absent = await fetch(`${url}/${key.startsWith('media/') ? key : `media/${key}`}`)
    t.equal(absent.status, 404)
    t.match(await absent.json(), { code: 'not_found' })
  }
  proxy.set({ kind: 'refuse' })
  t.equal((await fetch(`${url}/${KEY}`)).status, 503)
  proxy.set({ kind: 'none' })
  t.equal((await fetch(`${url}/${KEY}`)).status, 200)
})
