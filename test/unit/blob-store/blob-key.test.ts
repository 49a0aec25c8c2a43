import t from 'tap'
import { assertBlobPrefix, contentTypeOf, extensionOf, isBlobKey } from '#platform/blob-store/blob-key.ts'

t.test('a key cannot leave the store or hide in it', async (t) => {
  for (const key of ['a', 'photos/1/1080.jpg', 'A-b_c.d/0', 'x'.repeat(200)]) t.ok(isBlobKey(key), key)
  const bad = ['', '/a', 'a/', 'a//b', '..', 'a/../b', '.tmp/a', 'a/.b', 'a\\b', 'a b', 'a\0', 'a\n', 'é', '%2e', 'x'.repeat(201)]
  for (const key of bad) t.notOk(isBlobKey(key), JSON.stringify(key))
})

t.test('a prefix is a key with a slash behind it', async (t) => {
  t.doesNotThrow(() => assertBlobPrefix('photos/1/'))
  for (const prefix of ['', '/', 'photos/1', '../', 'photos//']) t.throws(() => assertBlobPrefix(prefix), TypeError, prefix)
})

t.test('the extension and the media type stand for each other', async (t) => {
  for (const type of ['image/jpeg', 'image/png', 'image/webp', 'image/avif', 'image/heic', 'application/json']) {
    t.equal(contentTypeOf(`a/b.${extensionOf(type) ?? ''}`), type)
  }
  t.equal(contentTypeOf('a.exe'), 'application/octet-stream')
  t.equal(contentTypeOf('a.d/b'), 'application/octet-stream')
  t.equal(extensionOf('image/svg+xml'), undefined)
})
