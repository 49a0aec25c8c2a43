import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { explainImageError, UndecodableImageError } from '#platform/images/undecodable-image-error.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { renderRenditions } from '../../../services/thumbnail-worker/render-renditions.ts'
import {
  makeDamagedJpeg, makeJpegBomb, makeManyFrameGif, makePngBomb, makePolyglot, makeSvg, makeText, makeTruncatedJpeg,
} from '../../support/hostile-pictures.ts'

t.test('what is no picture of ours fails with the reason, from memory and from a file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'monogram-hostile-'))
  for (const [name, bytes, code] of [
    ['bomb.png', await makePngBomb(), 'too_many_pixels'],
    ['bomb.jpg', await makeJpegBomb(), 'too_many_pixels'],
    ['truncated.jpg', await makeTruncatedJpeg(), 'truncated'],
    ['damaged.jpg', await makeDamagedJpeg(), 'undecodable'],
    ['picture.svg', makeSvg(), 'undecodable'],
    ['frames.gif', makeManyFrameGif(), 'undecodable'],
    ['text.jpg', makeText(), 'undecodable'],
    ['empty.jpg', Buffer.alloc(0), 'undecodable'],
  ] as const) {
    const path = join(folder, name)
    writeFileSync(path, bytes)
    for (const input of [bytes, path]) {
      const error: unknown = await renderRenditions(input).catch((error: unknown) => error)
      if (t.ok(error instanceof UndecodableImageError, name) && error instanceof UndecodableImageError) {
        t.equal(error.code, code, `${name}: ${String(error.cause)}`)
        t.ok(error.detail.endsWith('.'))
      }
    }
  }
})

t.test('a picture cut short anywhere fails in every format', async (t) => {
  for (const format of ['jpeg', 'png', 'webp', 'avif'] as const) {
    const picture = await makePicture({ seed: 20, width: 300, height: 200, format })
    for (const share of [0.1, 0.5, 0.9, 0.99]) {
      await t.rejects(renderRenditions(picture.subarray(0, Math.floor(picture.length * share))), UndecodableImageError, `${format} ${String(share)}`)
    }
  }
})

t.test('nothing is left of a polyglot but its pixels', async (t) => {
  const polyglot = await makePolyglot()
  t.ok(polyglot.includes('<script>') && polyglot.includes('PK'))
  for (const { bytes } of (await renderRenditions(polyglot)).renditions) {
    t.notOk(bytes.includes('<script>') || bytes.includes('<html>'))
    t.same([...bytes.subarray(-2)], [0xff, 0xd9], 'ends where the JPEG ends')
  }
})

t.test('a fault of the machine is not blamed on the file', async (t) => {
  const missing: unknown = await renderRenditions('/nonexistent/picture.jpg').catch((error: unknown) => error)
  t.ok(missing instanceof Error && !(missing instanceof UndecodableImageError))
  const mistake = new TypeError('not a function')
  t.equal(explainImageError(mistake), mistake)
  t.equal(explainImageError('text'), 'text')
  const slow = new Error('timeout: 42% complete')
  t.equal(explainImageError(slow), slow)
})
