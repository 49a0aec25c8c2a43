import t from 'tap'
import { readHeader } from '#platform/images/header.ts'
import { MAX_IMAGE_PIXELS } from '#platform/images/limits.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import {
  makeJpegBomb, makeManyFrameGif, makePngBomb, makeSvg, makeText, makeTruncatedJpeg,
} from '../../support/hostile-pictures.ts'

t.test('reads the stored size of each format', async (t) => {
  for (const format of ['jpeg', 'png', 'webp', 'avif'] as const) {
    for (const alpha of format === 'jpeg' ? [false] : [false, true]) {
      const picture = await makePicture({ seed: 2, width: 333, height: 77, format, alpha, gps: { latitude: 1, longitude: 1 } })
      t.same(readHeader(picture), { width: 333, height: 77, mediaType: `image/${format}` })
    }
  }
  const turned = await makePicture({ seed: 2, width: 333, height: 77, orientation: 6 })
  t.same(readHeader(turned), { width: 77, height: 333, mediaType: 'image/jpeg' })
})

t.test('reads every form of WebP', async (t) => {
  const webp = (chunk: string, size: string): Buffer => Buffer.from(`RIFF\x99\0\0\0WEBP${chunk}\x99\0\0\0${size}`, 'latin1')
  t.match(readHeader(webp('VP8 ', '\0\0\0\x9d\x01\x2a\x40\x01\xf0\x40')), { width: 320, height: 240 })
  t.match(readHeader(webp('VP8L', '\x2f\x3f\xc1\x3b\x00\0\0\0\0\0')), { width: 320, height: 240 })
  t.match(readHeader(webp('VP8X', '\0\0\0\0\x3f\x01\0\xef\0\0')), { width: 320, height: 240 })
  t.equal(readHeader(webp('VP9 ', '\0\0\0\0\x3f\x01\0\xef\0\0')), undefined)
})

t.test('finds too many pixels at once, from a short prefix', async (t) => {
  for (const bomb of [await makePngBomb(), await makeJpegBomb()]) {
    const header = readHeader(bomb)
    t.ok(header && header.width * header.height > MAX_IMAGE_PIXELS)
  }
  const bomb = await makePngBomb()
  t.ok(bomb.length < 40_000)
  t.match(readHeader(bomb.subarray(0, 24)), { width: 16_384, height: 16_384 })
})

t.test('skips what stands before the size, up to where the prefix ends', async (t) => {
  const picture = await makePicture({ seed: 3, width: 60, height: 40 })
  const comment = Buffer.concat([Buffer.from([0xff, 0xfe, 0xff, 0xff]), Buffer.alloc(65_533, 'x')])
  const late = Buffer.concat([picture.subarray(0, 2), ...Array.from({ length: 12 }, () => comment), picture.subarray(2)])
  t.match(readHeader(late), { width: 60, height: 40 })
  t.equal(readHeader(late.subarray(0, 700_000)), undefined)
  const filled = Buffer.concat([picture.subarray(0, 2), Buffer.alloc(9, 0xff), picture.subarray(2)])
  t.match(readHeader(filled), { width: 60, height: 40 }, 'fill bytes')
})

t.test('gives undefined, and never throws, for what it cannot read', async (t) => {
  for (const bytes of [makeSvg(), makeManyFrameGif(), makeText(), Buffer.alloc(0)]) t.equal(readHeader(bytes), undefined)
  t.match(readHeader(await makeTruncatedJpeg()), { width: 640, height: 480 })
  for (const format of ['jpeg', 'png', 'webp', 'avif'] as const) {
    const picture = await makePicture({ seed: 4, width: 64, height: 48, format })
    for (let length = 0; length < Math.min(picture.length, 700); length++) {
      const header = readHeader(picture.subarray(0, length))
      if (header !== undefined) t.match(header, { width: 64, height: 48 })
    }
    // Any one byte of the header changed: a wrong size or none, but an answer.
    for (let at = 0; at < Math.min(picture.length, 700); at++) {
      const damaged = Buffer.from(picture)
      damaged[at] = (damaged[at] ?? 0) ^ 0xff
      readHeader(damaged)
    }
  }
  t.pass('no input made it throw')
})
