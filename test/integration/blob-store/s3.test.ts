import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { connectS3 } from '#platform/blob-store/s3-client.ts'
import { PART_BYTES } from '#platform/blob-store/s3-upload.ts'
import type { S3Request } from '../../../scripts/stack/s3.ts'
import { contents, JPEG, testBlobStore } from '../../support/blob-store-contract.ts'
import { openTestS3Store, s3StorageOf, startTestS3 } from '../../support/s3.ts'

const s3 = await startTestS3(t)
let prefixes = 0

/** A store in a folder of its own, and the names of its unfinished uploads. */
function open(t: Parameters<typeof openTestS3Store>[0]) {
  const prefix = `test-${++prefixes}`
  const env = s3.environmentAt({ prefix })
  const store = openTestS3Store(t, env)
  const leftovers = async (): Promise<string[]> => {
    const answer = await fetch(`http://127.0.0.1:${s3.port}/monogram?uploads&prefix=${prefix}/`, {
      headers: { authorization: 'AWS4-HMAC-SHA256 Credential=monogram/' },
    })
    return [...(await answer.text()).matchAll(/<Key>(.+?)<\/Key>/g)].map((match) => match[1] ?? '')
  }
  return { store, prefix, leftovers, env }
}

t.test('a bucket is a blob store', async (t) => testBlobStore(t, open))

t.test('a stream of unknown length arrives whole, in parts or in one piece', async (t) => {
  const { store, leftovers, prefix } = open(t)
  for (const [length, requests] of [
    [PART_BYTES - 1, 1],
    [PART_BYTES, 3],
    [2 * PART_BYTES + 1, 5],
    [4 * PART_BYTES, 6],
  ] as const) {
    const bytes = randomBytes(length)
    const before = s3.requests.length
    const stored = await store.put('big.jpg', Readable.from(pieces(bytes)), { ...JPEG, maxBytes: 4 * PART_BYTES })
    t.equal(stored.bytes, length)
    t.equal(s3.requests.slice(before).filter((line) => line.includes(prefix)).length, requests)
    const blob = await store.get('big.jpg')
    t.equal(blob?.totalBytes, length)
    t.ok(blob && bytes.equals(await buffer(blob.stream)))
  }
  t.same(await leftovers(), [])
})

t.test('what breaks, or proves too large, after parts have gone out leaves neither a blob nor parts', async (t) => {
  const { store, leftovers, prefix } = open(t)
  const sent = (): boolean => s3.requests.some((line) => line.includes(`${prefix}/a.jpg`) && line.includes('partNumber'))
  await t.rejects(store.put('a.jpg', Readable.from(breakOnce(sent)), JPEG), { message: 'broken' })

  const long = Readable.from(pieces(Buffer.alloc(2 * PART_BYTES)))
  await t.rejects(store.put('b.jpg', long, { ...JPEG, maxBytes: PART_BYTES + 100_000 }), { code: 'payload_too_large' })
  t.ok(s3.requests.some((line) => line.includes(`${prefix}/b.jpg`) && line.includes('partNumber')))
  for (const key of ['a.jpg', 'b.jpg']) t.equal(await store.get(key), undefined)
  t.same(await leftovers(), [])
})

t.test('a server that speaks the protocol of S3 is sent no checksum that only Amazon is sure to know', async (t) => {
  const { store, prefix } = open(t)
  const before = s3.received.length
  await store.put('sent/whole.jpg', Buffer.from('picture'), JPEG)
  await store.put('sent/parts.jpg', Readable.from(pieces(Buffer.alloc(PART_BYTES + 1))), { ...JPEG, maxBytes: 2 * PART_BYTES })
  t.equal(await contents(store, 'sent/whole.jpg'), 'picture')
  await store.signedUrl?.('sent/whole.jpg', 60)
  await store.list('sent/', { limit: 10 })
  await store.deletePrefix('sent/')
  const sent = s3.received.slice(before).filter(({ url }) => decodeURIComponent(url).includes(prefix))
  t.same([...new Set(sent.map(({ method }) => method))].toSorted(), ['DELETE', 'GET', 'HEAD', 'POST', 'PUT'], 'every kind of request')
  for (const { method, url, headers } of sent) {
    t.same(checksumsIn(headers), [], `${method} ${url}`)
    t.notMatch(new URL(url, 'http://s3').searchParams.toString(), /checksum/i)
  }
})

t.test('with Amazon itself everything has its checksum, both ways', async (t) => {
  for (const [endpoint, mode] of [['', 'WHEN_SUPPORTED'], ['&endpoint=https://s3.example', 'WHEN_REQUIRED']]) {
    const { client } = connectS3(s3StorageOf({ ...s3.environment, STORAGE_URL: `s3://monogram?region=eu-central-1${endpoint}` }))
    t.equal(await client.config.requestChecksumCalculation(), mode)
    t.equal(await client.config.responseChecksumValidation(), mode)
    client.destroy()
  }
})

t.test('deletePrefix takes more keys than a page has', async (t) => {
  const { store, prefix } = open(t)
  const keys = Array.from({ length: 1_003 }, (_, index) => `p/1/${index}.jpg`)
  for (let from = 0; from < keys.length; from += 50) {
    await Promise.all(keys.slice(from, from + 50).map((key) => store.put(key, Buffer.from('a'), JPEG)))
  }
  await store.put('p/10/a.jpg', Buffer.from('a'), JPEG)
  await store.deletePrefix('p/1/')
  t.equal(s3.requests.filter((line) => line.startsWith('GET /monogram') && line.includes(`prefix=${prefix}%2Fp%2F1%2F`)).length, 2)
  for (const key of [keys[0], keys[500], keys[1_002]]) t.equal(await store.get(key ?? ''), undefined)
  t.equal(await contents(store, 'p/10/a.jpg'), 'a')
})

t.test('the sweep ends uploads that a crash has left, when they are old', async (t) => {
  const { env, leftovers, prefix } = open(t)
  const clock = manualClock(Date.now())
  const store = openTestS3Store(t, env, { clock })
  let left = 2
  // The process dies before it can abort: here S3 does not let it.
  s3.refuse(({ method, url }) => (method === 'DELETE' && url.includes('uploadId') && left-- > 0 ? { status: 403, code: 'AccessDenied' } : null))
  t.teardown(() => s3.refuse(null))
  for (const key of ['a.jpg', 'b.jpg']) {
    const sent = (): boolean => s3.requests.some((line) => line.includes(`${prefix}/${key}`) && line.includes('partNumber'))
    await t.rejects(store.put(key, Readable.from(breakOnce(sent)), JPEG), { message: 'broken' })
  }
  t.equal((await leftovers()).length, 2)
  t.equal(await store.sweep(60_000), 0)
  clock.advance(120_000)
  t.equal(await store.sweep(60_000), 2)
  t.same(await leftovers(), [])
})

t.test('objects are private; a signed URL shows one for its life', async (t) => {
  const { store, prefix } = open(t)
  await store.put('media/a-b.jpg', Buffer.from('picture'), JPEG)
  t.equal((await fetch(`http://127.0.0.1:${s3.port}/monogram/${prefix}/media/a-b.jpg`)).status, 403)
  t.equal(await store.signedUrl?.('media/none.jpg', 60), undefined)

  const url = await store.signedUrl?.('media/a-b.jpg', 60)
  const shown = await fetch(url ?? '')
  t.match(shown, { status: 200 })
  t.equal(shown.headers.get('content-type'), 'image/jpeg')
  t.match(shown.headers.get('cache-control'), /^private, .*immutable$/)
  t.equal(await shown.text(), 'picture')

  const late = await store.signedUrl?.('media/a-b.jpg', 0)
  t.equal((await fetch(late ?? '')).status, 403, 'its life is over')
})

/** What of a request's headers is a checksum, or asks for one, or says that one follows the body. */
function checksumsIn(headers: S3Request['headers']): string[] {
  const named = Object.keys(headers).filter((name) => /^x-amz-(checksum-|sdk-checksum-|trailer)/.test(name))
  const { 'content-encoding': encoding = '', 'x-amz-content-sha256': hash = '' } = headers
  return [...named, ...(encoding.includes('aws-chunked') ? ['aws-chunked'] : []), ...(/TRAILER/.test(String(hash)) ? [String(hash)] : [])]
}

function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 65_537) yield bytes.subarray(at, at + 65_537)
}

/** A part and a bit, and a failure once that `happened`. */
async function* breakOnce(happened: () => boolean): AsyncGenerator<Buffer> {
  yield Buffer.alloc(PART_BYTES + 1_000)
  while (!happened()) await new Promise((resolve) => setImmediate(resolve))
  throw new Error('broken')
}
