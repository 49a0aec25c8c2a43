import { Readable } from 'node:stream'
import { pino } from 'pino'
import t from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { openBlobStore } from '#platform/blob-store/open-blob-store.ts'
import type { BlobStore } from '#platform/blob-store/blob-store.ts'
import { contents, JPEG } from '../../support/blob-store-contract.ts'
import { startFaultProxy, type Fault } from '../../support/fault-proxy.ts'
import { openTestS3Store, s3StorageOf, startTestS3 } from '../../support/s3.ts'

/** Short, so that a test of a server that does not answer is short too. */
const IMPATIENT = { transfer: { totalMs: 700, attemptMs: 400 }, call: { totalMs: 700, attemptMs: 400 } }
const AWAY = { code: 'unavailable', status: 503, retryAfterSeconds: 5 }

const s3 = await startTestS3(t)
const proxy = await startFaultProxy(t, s3.port)
const store = openTestS3Store(t, s3.environmentAt({ port: proxy.port, prefix: 'faults' }), { deadlines: IMPATIENT })
const patient = openTestS3Store(t, s3.environmentAt({ port: proxy.port, prefix: 'faults' }))
t.afterEach(() => {
  proxy.set({ kind: 'none' })
  s3.refuse(null)
})

/** Every operation that asks S3 something. */
const operations = (blobs: BlobStore): Record<Exclude<keyof BlobStore, 'signedOrigin'>, () => Promise<unknown>> => ({
  put: () => blobs.put('new.jpg', Readable.from([Buffer.from('new')]), JPEG),
  get: () => blobs.get('old.jpg'),
  delete: () => blobs.delete('old.jpg'),
  deletePrefix: () => blobs.deletePrefix('p/'),
  list: () => blobs.list('p/', { limit: 10 }),
  sweep: () => blobs.sweep(0),
  signedUrl: async () => blobs.signedUrl?.('old.jpg', 60),
})

t.test('a server that is silent, refuses or breaks connections gives 503 in time, and recovers', async (t) => {
  const faults: Fault[] = [{ kind: 'black-hole' }, { kind: 'refuse' }, { kind: 'reset', afterBytes: 10 }, { kind: 'fin', afterBytes: 10 }]
  for (const fault of faults) {
    await patient.put('old.jpg', Buffer.from('old'), JPEG)
    proxy.set(fault)
    for (const [name, run] of Object.entries(operations(store))) {
      const began = performance.now()
      await t.rejects(run(), AWAY, `${name}: ${fault.kind}`)
      t.ok(performance.now() - began < 5_000)
    }
    // Connections that swallowed something are of no more use.
    proxy.set({ kind: 'refuse' })
    proxy.set({ kind: 'none' })
    for (const name of ['old', 'new']) {
      const found = await contents(patient, `${name}.jpg`)
      t.ok(found === undefined || found === name, 'what was asked for has happened wholly or not at all')
    }
    t.equal((await patient.put('again.jpg', Buffer.from('again'), JPEG)).bytes, 5)
    t.equal(await contents(patient, 'again.jpg'), 'again')
  }
})

t.test('one broken connection is only a retry', async (t) => {
  await patient.put('old.jpg', Buffer.from('old'), JPEG)
  let failures = 1
  s3.refuse(() => (failures-- > 0 ? { status: 500, code: 'InternalError' } : null))
  t.equal(await contents(patient, 'old.jpg'), 'old')
  t.ok(failures < 0)
})

t.test('5xx, throttling, a lost right and a lost bucket are 503; a full store is 507', async (t) => {
  for (const [status, code] of [[500, 'InternalError'], [503, 'SlowDown'], [403, 'AccessDenied'], [404, 'NoSuchBucket']] as const) {
    s3.refuse(() => ({ status, code }))
    const { put, get } = operations(patient)
    await t.rejects(put(), AWAY, code)
    await t.rejects(get(), AWAY, code)
  }
  s3.refuse(() => ({ status: 507, code: 'XMinioStorageFull' }))
  await t.rejects(operations(patient).put(), { code: 'insufficient_storage', status: 507 })
})

t.test('a body that breaks off fails its reader, and is never short', async (t) => {
  await patient.put('long.jpg', Buffer.alloc(1_000_000), JPEG)
  for (const kind of ['reset', 'fin'] as const) {
    proxy.set({ kind, afterBytes: 300_000 })
    await t.rejects(contents(patient, 'long.jpg'), { code: 'ECONNRESET' })
    proxy.set({ kind: 'none' })
  }
})

t.test('aborting a put while S3 is silent ends it at once', async (t) => {
  proxy.set({ kind: 'black-hole' })
  const abort = new AbortController()
  const put = patient.put('a.jpg', Buffer.from('a'), { ...JPEG, signal: abort.signal })
  setImmediate(() => abort.abort())
  const began = performance.now()
  await t.rejects(put, { name: 'AbortError' })
  t.ok(performance.now() - began < 2_000)
})

t.test('at boot', async (t) => {
  const log = pino({ level: 'silent' })
  const boot = async (env: Record<string, string>): Promise<void> => {
    const opened = await openBlobStore(s3StorageOf(env), log, systemClock)
    opened.close()
  }
  const good = s3.environmentAt({})

  await t.test('a good place is opened', async () => boot(good))

  await t.test('what is wrong is named by its variable', async (t) => {
    const bucket = { ...good, STORAGE_URL: good['STORAGE_URL']?.replace('//monogram', '//elsewhere') ?? '' }
    await t.rejects(boot(bucket), { message: /^STORAGE_URL: there is no bucket "elsewhere" at http:/ })
    await t.rejects(boot({ ...good, AWS_ACCESS_KEY_ID: 'stranger' }), {
      message: 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the store does not accept them (InvalidAccessKeyId).',
    })
    for (const [status, code, message] of [
      [403, 'SignatureDoesNotMatch', /^AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the store does not accept them/],
      [403, 'AccessDenied', /^AWS_ACCESS_KEY_ID .* do not allow to list/],
      [400, 'AuthorizationHeaderMalformed', /^STORAGE_URL: the bucket "monogram" is not in the region "us-east-1"/],
      [301, 'PermanentRedirect', /^STORAGE_URL: the bucket .* is not in the region/],
    ] as const) {
      s3.refuse(() => ({ status, code }))
      await t.rejects(boot(good), { message }, code)
    }
  })

  await t.test('an outage stops nobody', async () => {
    s3.refuse(() => ({ status: 503, code: 'SlowDown' }))
    await boot(good)
    s3.refuse(null)
    proxy.set({ kind: 'refuse' })
    await boot(s3.environmentAt({ port: proxy.port }))
  })
})
