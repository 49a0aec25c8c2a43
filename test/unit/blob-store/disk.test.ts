import { mkdir, open, readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import { manualClock } from '#kernel/clock.ts'
import { diskBlobStore } from '#platform/blob-store/disk.ts'
import { contents, JPEG, testBlobStore } from '../../support/blob-store-contract.ts'

t.test('a directory is a blob store', async (t) => {
  testBlobStore(t, (t) => {
    const directory = join(t.testdir(), 'blobs')
    return { store: diskBlobStore({ directory }), leftovers: () => readdir(join(directory, '.tmp')) }
  })
})

t.test('a full disk is a problem that the client can be told of', { skip: process.platform !== 'linux' }, async (t) => {
  const directory = t.testdir()
  const store = diskBlobStore({ directory, openTemporary: () => open('/dev/full', 'w') })
  const source = Readable.from([Buffer.alloc(10)])
  await t.rejects(store.put('a.jpg', source, JPEG), { code: 'insufficient_storage', status: 507 })
  t.ok(source.destroyed)
  t.equal(await store.get('a.jpg'), undefined)
})

t.test('puts of one prefix survive its deletion at the same time', async (t) => {
  const store = diskBlobStore({ directory: t.testdir() })
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
