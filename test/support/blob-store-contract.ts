import { createHash, randomBytes } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { BlobStore, GetOptions } from '#platform/blob-store/blob-store.ts'

export const JPEG = { contentType: 'image/jpeg' }

/** A store of one test's own, and a look at what puts that failed have left behind. */
export interface ContractStore {
  readonly store: BlobStore
  /** The names of unfinished puts. */
  readonly leftovers: () => Promise<readonly string[]>
}

/** What a blob says, as text; undefined when there is none. */
export async function contents(store: BlobStore, key: string, options?: GetOptions): Promise<string | undefined> {
  const blob = await store.get(key, options)
  return blob === undefined ? undefined : (await buffer(blob.stream)).toString()
}

/** What every kind of blob store must do, as subtests of `t`; `open` makes an empty one. */
export function testBlobStore(t: Test, open: (t: Test) => ContractStore): void {
  t.test('a stream comes back as it went in, with its length and hash', async (t) => {
    const { store, leftovers } = open(t)
    const bytes = randomBytes(300_000)
    const stored = await store.put('photos/1/o.jpg', Readable.from([bytes.subarray(0, 7), bytes.subarray(7)]), JPEG)
    t.same(stored, { bytes: 300_000, sha256: createHash('sha256').update(bytes).digest('hex') })
    const blob = await store.get('photos/1/o.jpg')
    t.match(blob, { bytes: 300_000, totalBytes: 300_000, contentType: 'image/jpeg' })
    t.ok(blob && bytes.equals(await buffer(blob.stream)))
    t.same(await leftovers(), [])
  })

  t.test('bytes may be put as they are, replace what was there, and be none at all', async (t) => {
    const { store } = open(t)
    await store.put('a.jpg', Buffer.from('first'), JPEG)
    await store.put('a.jpg', Buffer.from('second'), JPEG)
    t.equal(await contents(store, 'a.jpg'), 'second')
    await store.put('a.jpg', new Uint8Array(0), JPEG)
    t.equal(await contents(store, 'a.jpg'), '')
  })

  t.test('a range includes both of its ends and stops at the last byte', async (t) => {
    const { store } = open(t)
    await store.put('a.jpg', Buffer.from('0123456789'), JPEG)
    t.equal(await contents(store, 'a.jpg', { range: { start: 2, end: 4 } }), '234')
    t.equal(await contents(store, 'a.jpg', { range: { start: 8 } }), '89')
    t.equal(await contents(store, 'a.jpg', { range: { start: 9, end: 99 } }), '9')
    const blob = await store.get('a.jpg', { range: { start: 9, end: 99 } })
    t.match(blob, { bytes: 1, totalBytes: 10 })
    blob?.stream.destroy()
    await t.rejects(store.get('a.jpg', { range: { start: 10 } }), { code: 'range_not_satisfiable' })
    await t.rejects(store.get('a.jpg', { range: { start: 5, end: 4 } }), { code: 'range_not_satisfiable' })
    t.equal(await store.get('b.jpg', { range: { start: 0 } }), undefined)
  })

  t.test('what is absent is undefined, and may be deleted twice', async (t) => {
    const { store } = open(t)
    t.equal(await store.get('a.jpg'), undefined)
    await store.put('d/a.jpg', Buffer.from('a'), JPEG)
    t.equal(await store.get('d'), undefined, 'a folder is no blob')
    t.equal(await store.get('d/a.jpg/b'), undefined)
    await store.delete('d/a.jpg')
    await store.delete('d/a.jpg')
    t.equal(await store.get('d/a.jpg'), undefined)
  })

  t.test('deletePrefix removes what lies below, and nothing beside it', async (t) => {
    const { store } = open(t)
    for (const key of ['p/1/a.jpg', 'p/1/b/c.jpg', 'p/12/a.jpg']) await store.put(key, Buffer.from(key), JPEG)
    await store.deletePrefix('p/1/')
    await store.deletePrefix('p/1/')
    const left = await Promise.all(['p/1/a.jpg', 'p/1/b/c.jpg', 'p/12/a.jpg'].map((key) => contents(store, key)))
    t.same(left, [undefined, undefined, 'p/12/a.jpg'])
  })

  t.test('a list goes on where it was, in the order of the keys', async (t) => {
    const { store } = open(t)
    const keys = ['p/1-a.jpg', 'p/1.jpg', 'p/1/a.jpg', 'p/1/b/c.jpg', 'p/10/a.jpg', 'p/2.jpg']
    t.same(await store.list('p/', { limit: 3 }), [])
    const before = Date.now()
    for (const key of [...keys, 'q/a.jpg', 'o.jpg']) await store.put(key, Buffer.from(key), JPEG)
    for (const limit of [1, 3, 5, 6]) {
      const seen: string[] = []
      for (let after: string | undefined; ; after = seen.at(-1)) {
        const page = await store.list('p/', { limit, ...(after !== undefined && { after }) })
        for (const { storedAtMs } of page) t.ok(storedAtMs > before - 60_000 && storedAtMs < Date.now() + 60_000)
        seen.push(...page.map(({ key }) => key))
        if (page.length < limit) break
      }
      t.same(seen, keys, `${limit} at a time`)
    }
    t.same((await store.list('p/', { limit: 9, after: 'p/1.txt' })).map(({ key }) => key), keys.slice(2), 'after what is gone')
    t.same(await store.list('p/1/b/', { limit: 9, after: 'p/2' }), [])
  })

  t.test('above the limit nothing is stored, at it everything', async (t) => {
    const { store, leftovers } = open(t)
    const long = Readable.from([Buffer.alloc(5), Buffer.alloc(6)])
    await t.rejects(store.put('a.jpg', long, { ...JPEG, maxBytes: 10 }), { code: 'payload_too_large' })
    t.ok(long.destroyed)
    t.equal(await store.get('a.jpg'), undefined)
    t.same(await leftovers(), [])
    t.equal((await store.put('a.jpg', Buffer.alloc(10), { ...JPEG, maxBytes: 10 })).bytes, 10)
  })

  t.test('a stream that fails, is cut short or is aborted leaves nothing', async (t) => {
    const { store, leftovers } = open(t)
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
    t.same(await leftovers(), [])
  })

  t.test('a bad key, and a type that is not the key’s, are faults of the program', async (t) => {
    const { store } = open(t)
    const bad: (() => Promise<unknown>)[] = [
      () => store.put('../a.jpg', Buffer.from('a'), JPEG),
      () => store.get('../a.jpg'),
      () => store.delete('.tmp/a'),
      () => store.deletePrefix('../'),
      () => store.list('../', { limit: 1 }),
      () => store.put('a.png', Buffer.from('a'), JPEG),
    ]
    for (const call of bad) await t.rejects(call, TypeError)
  })

  t.test('the sweep leaves young puts alone', async (t) => {
    const { store } = open(t)
    await store.put('a.jpg', Buffer.from('a'), JPEG)
    t.equal(await store.sweep(60_000), 0)
    t.equal(await contents(store, 'a.jpg'), 'a')
  })
}
