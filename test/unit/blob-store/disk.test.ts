import { createHash, randomBytes } from 'node:crypto'
import { mkdir, open, readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { manualClock } from '#kernel/clock.ts'
import type { BlobStore, GetOptions } from '#platform/blob-store/blob-store.ts'
import { diskBlobStore } from '#platform/blob-store/disk.ts'

const JPEG = { contentType: 'image/jpeg' }

function storeOf(t: Test): { store: BlobStore; directory: string; temporaries: () => Promise<string[]> } {
  const directory = join(t.testdir(), 'blobs')
  return { store: diskBlobStore({ directory }), directory, temporaries: () => readdir(join(directory, '.tmp')) }
}

async function contents(store: BlobStore, key: string, options?: GetOptions): Promise<string | undefined> {
  const blob = await store.get(key, options)
  return blob === undefined ? undefined : (await buffer(blob.stream)).toString()
}

t.test('a stream comes back as it went in, with its length and hash', async (t) => {
  const { store, temporaries } = storeOf(t)
  const bytes = randomBytes(300_000)
  const stored = await store.put('photos/1/o.jpg', Readable.from([bytes.subarray(0, 7), bytes.subarray(7)]), JPEG)
  t.same(stored, { bytes: 300_000, sha256: createHash('sha256').update(bytes).digest('hex') })
  const blob = await store.get('photos/1/o.jpg')
  t.match(blob, { bytes: 300_000, totalBytes: 300_000, contentType: 'image/jpeg' })
  t.ok(blob && bytes.equals(await buffer(blob.stream)))
  t.same(await temporaries(), [])
})

t.test('bytes may be put as they are, replace what was there, and be none at all', async (t) => {
  const { store } = storeOf(t)
  await store.put('a.jpg', Buffer.from('first'), JPEG)
  await store.put('a.jpg', Buffer.from('second'), JPEG)
  t.equal(await contents(store, 'a.jpg'), 'second')
  await store.put('a.jpg', new Uint8Array(0), JPEG)
  t.equal(await contents(store, 'a.jpg'), '')
})

t.test('a range includes both of its ends and stops at the last byte', async (t) => {
  const { store } = storeOf(t)
  await store.put('a.jpg', Buffer.from('0123456789'), JPEG)
  t.equal(await contents(store, 'a.jpg', { range: { start: 2, end: 4 } }), '234')
  t.equal(await contents(store, 'a.jpg', { range: { start: 8 } }), '89')
  t.equal(await contents(store, 'a.jpg', { range: { start: 9, end: 99 } }), '9')
  const blob = await store.get('a.jpg', { range: { start: 9, end: 99 } })
  t.match(blob, { bytes: 1, totalBytes: 10 })
  blob?.stream.destroy()
  await t.rejects(store.get('a.jpg', { range: { start: 10 } }), { code: 'range_not_satisfiable' })
})

t.test('what is absent is undefined, and may be deleted twice', async (t) => {
  const { store } = storeOf(t)
  t.equal(await store.get('a.jpg'), undefined)
  await store.put('d/a.jpg', Buffer.from('a'), JPEG)
  t.equal(await store.get('d'), undefined, 'a directory is no blob')
  t.equal(await store.get('d/a.jpg/b'), undefined)
  await store.delete('d/a.jpg')
  await store.delete('d/a.jpg')
  t.equal(await store.get('d/a.jpg'), undefined)
})

t.test('deletePrefix removes what lies below, and nothing beside it', async (t) => {
  const { store } = storeOf(t)
  for (const key of ['p/1/a.jpg', 'p/1/b/c.jpg', 'p/12/a.jpg']) await store.put(key, Buffer.from(key), JPEG)
  await store.deletePrefix('p/1/')
  await store.deletePrefix('p/1/')
  t.same(await Promise.all(['p/1/a.jpg', 'p/1/b/c.jpg', 'p/12/a.jpg'].map((key) => contents(store, key))), [
    undefined,
    undefined,
    'p/12/a.jpg',
  ])
})

t.test('above the limit nothing is stored, at it everything', async (t) => {
  const { store, temporaries } = storeOf(t)
  await t.rejects(store.put('a.jpg', Readable.from([Buffer.alloc(5), Buffer.alloc(6)]), { ...JPEG, maxBytes: 10 }), {
    code: 'payload_too_large',
  })
  t.equal(await store.get('a.jpg'), undefined)
  t.same(await temporaries(), [])
  t.equal((await store.put('a.jpg', Buffer.alloc(10), { ...JPEG, maxBytes: 10 })).bytes, 10)
})

t.test('a stream that fails, is cut short or is aborted leaves nothing', async (t) => {
  const { store, temporaries } = storeOf(t)
  const failing = new PassThrough()
  failing.write('some')
  const failed = store.put('a.jpg', failing, JPEG)
  failing.destroy(new Error('connection reset'))
  await t.rejects(failed, { message: 'connection reset' })

  const cut = new PassThrough()
  cut.write('some')
  const cutShort = store.put('a.jpg', cut, JPEG)
  cut.destroy()
  await t.rejects(cutShort, { code: 'ERR_STREAM_PREMATURE_CLOSE' })

  const slow = new PassThrough()
  slow.write('some')
  const abort = new AbortController()
  const aborted = store.put('a.jpg', slow, { ...JPEG, signal: abort.signal })
  abort.abort()
  await t.rejects(aborted, { name: 'AbortError' })

  t.equal(await store.get('a.jpg'), undefined)
  t.same(await temporaries(), [])
})

t.test('a full disk is a problem that the client can be told of', { skip: process.platform !== 'linux' }, async (t) => {
  const directory = t.testdir()
  const store = diskBlobStore({ directory, openTemporary: () => open('/dev/full', 'w') })
  const source = Readable.from([Buffer.alloc(10)])
  await t.rejects(store.put('a.jpg', source, JPEG), { code: 'insufficient_storage', status: 507 })
  t.ok(source.destroyed)
  t.equal(await store.get('a.jpg'), undefined)
})

t.test('a bad key, and a type that is not the key’s, are faults of the program', async (t) => {
  const { store } = storeOf(t)
  await t.rejects(store.put('../a.jpg', Buffer.from('a'), JPEG), TypeError)
  await t.rejects(store.get('../a.jpg'), TypeError)
  await t.rejects(store.delete('.tmp/a'), TypeError)
  await t.rejects(store.deletePrefix('../'), TypeError)
  await t.rejects(store.put('a.png', Buffer.from('a'), JPEG), TypeError)
})

t.test('puts of one prefix survive its deletion at the same time', async (t) => {
  const { store } = storeOf(t)
  await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      await store.put(`p/${index}.jpg`, Buffer.from('a'), JPEG).catch((error: unknown) => {
        t.match(error, { code: 'ENOENT' }, 'only after several deletions in a row')
      })
      if (index % 5 === 0) await store.deletePrefix('p/')
    }),
  )
  await store.put('p/last.jpg', Buffer.from('a'), JPEG)
  t.equal(await contents(store, 'p/last.jpg'), 'a')
})

t.test('the sweep takes old temporary files only', async (t) => {
  const directory = t.testdir()
  const clock = manualClock(10_000_000)
  const store = diskBlobStore({ directory, clock })
  t.equal(await store.sweep(1_000), 0)
  await mkdir(join(directory, '.tmp'))
  for (const [name, ageMs] of [['old', 5_000], ['young', 500]] as const) {
    const path = join(directory, '.tmp', name)
    await writeFile(path, name)
    const seconds = (clock.nowMs() - ageMs) / 1_000
    await utimes(path, seconds, seconds)
  }
  t.equal(await store.sweep(1_000), 1)
  t.same(await readdir(join(directory, '.tmp')), ['young'])
})
