import t from 'tap'
import { openImage, openPixels, toPixels } from '#platform/images/open-image.ts'
import { CORNER_COLOURS, findCorners, UPRIGHT_CORNERS } from '../../../scripts/pictures/corners.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { renderRenditions } from '../../../services/thumbnail-worker/render-renditions.ts'
import { PHOTOGRAPHS, readPhotograph } from '../../support/photographs.ts'
import type { Rendered } from '../../../services/thumbnail-worker/render-renditions.ts'

const NAMES = ['thumb', 'small', 'medium', 'large']
const VIENNA = { latitude: 48.2082, longitude: 16.3738 }

const sizesOf = ({ renditions }: Rendered): number[][] => renditions.map(({ width, height }) => [width, height])

t.test('makes four renditions that fit inside their squares', async (t) => {
  const rendered = await renderRenditions(await makePicture({ seed: 10, width: 1600, height: 1200 }))
  t.match(rendered, { width: 1600, height: 1200, takenAt: null })
  t.same(rendered.renditions.map(({ name }) => name), NAMES)
  t.same(sizesOf(rendered), [[150, 113], [320, 240], [640, 480], [1080, 810]])
  t.match(rendered.blurhash, /^L[A-Za-z0-9#$%*+,\-.:;=?@[\]^_{|}~]{27}$/, '4 x 3 waves')
  for (const { bytes, width, height, format } of rendered.renditions) {
    t.match(await openImage(bytes).metadata(), { format, width, height })
  }
})

t.test('a rendition looks like its photograph', async (t) => {
  for (const name of PHOTOGRAPHS) {
    const photograph = await readPhotograph(name)
    const { renditions } = await renderRenditions(photograph)
    for (const { bytes, width, height } of renditions) {
      const expected = await toPixels(openImage(photograph).resize({ width, height, fit: 'fill' }))
      const { data } = await toPixels(openImage(bytes))
      const error = data.reduce((sum, value, at) => sum + Math.abs(value - (expected.data[at] ?? 0)), 0) / data.length
      t.ok(error < 7, `${name}, ${String(width)} wide: ${error.toFixed(2)} of 255 off on average`)
    }
  }
})

t.test('never enlarges, however small or thin the picture is', async (t) => {
  for (const [width, height, sizes] of [
    [1, 1, [[1, 1], [1, 1], [1, 1], [1, 1]]],
    [200, 100, [[150, 75], [200, 100], [200, 100], [200, 100]]],
    [640, 480, [[150, 113], [320, 240], [640, 480], [640, 480]]],
    [5000, 2, [[150, 1], [320, 1], [640, 1], [1080, 1]]],
    [3, 4000, [[1, 150], [1, 320], [1, 640], [1, 1080]]],
  ] as const) {
    const rendered = await renderRenditions(await makePicture({ seed: 11, width, height, format: 'png' }))
    t.same(sizesOf(rendered), sizes, `${String(width)} x ${String(height)}`)
    t.match(rendered, { width, height })
  }
})

t.test('is upright for every EXIF orientation, by its content, in every format', async (t) => {
  for (const format of ['jpeg', 'png', 'webp', 'avif'] as const) {
    for (let orientation = 1; orientation <= 8; orientation++) {
      const options = { seed: 12, width: 660, height: 440, format, orientation, corners: true }
      const rendered = await renderRenditions(await makePicture(options))
      t.match(rendered, { width: 660, height: 440 }, `${format} ${String(orientation)}`)
      t.same(sizesOf(rendered), [[150, 100], [320, 213], [640, 427], [660, 440]])
      for (const { bytes } of rendered.renditions) t.same(await findCorners(bytes), UPRIGHT_CORNERS)
    }
  }
})

t.test('a large JPEG that the decoder shrinks is upright too', async (t) => {
  for (const orientation of [3, 6]) {
    const picture = await makePicture({ seed: 13, width: 2250, height: 3300, orientation, corners: true })
    const rendered = await renderRenditions(picture)
    t.match(rendered, { width: 2250, height: 3300 })
    t.same(sizesOf(rendered).at(-1), [736, 1080])
    t.same(await findCorners(rendered.renditions[0]?.bytes ?? Buffer.alloc(0)), UPRIGHT_CORNERS)
  }
})

t.test('a picture with an alpha channel becomes WebP and keeps it', async (t) => {
  for (const format of ['png', 'webp', 'avif'] as const) {
    const { renditions } = await renderRenditions(await makePicture({ seed: 14, width: 500, height: 400, format, alpha: true }))
    for (const { bytes, format } of renditions) {
      t.equal(format, 'webp')
      t.match(await openImage(bytes).metadata(), { format: 'webp', hasAlpha: true })
      const { data } = await toPixels(openImage(bytes))
      t.equal(data[3], 255, 'opaque at the top')
      t.ok((data.at(-1) ?? 255) < 20, 'transparent at the bottom')
    }
  }
  const opaque = await renderRenditions(await makePicture({ seed: 14, width: 500, height: 400, format: 'png' }))
  t.ok(opaque.renditions.every(({ format }) => format === 'jpeg'))
})

t.test('grey and palette pictures are decoded like any other', async (t) => {
  const data = Uint8Array.from({ length: 64 * 64 }, (_, i) => i % 256)
  const grey = openPixels({ data, width: 64, height: 64, channels: 1 })
  for (const picture of [
    await grey.clone().toColourspace('b-w').jpeg().toBuffer(),
    await grey.clone().toColourspace('b-w').png().toBuffer(),
    await grey.clone().png({ palette: true }).toBuffer(),
    await grey.clone().toColourspace('rgb16').png().toBuffer(),
    await grey.clone().ensureAlpha(0.5).toColourspace('b-w').png().toBuffer(),
    await grey.clone().toColourspace('cmyk').jpeg().toBuffer(),
  ]) {
    t.equal((await renderRenditions(picture)).renditions.length, 4)
  }
})

t.test('colours of another profile arrive as sRGB', async (t) => {
  for (const format of ['jpeg', 'png'] as const) {
    const options = { seed: 15, width: 400, height: 300, format, quality: 95, corners: true }
    const wide = await makePicture({ ...options, profile: 'p3' })
    const stored = await toPixels(openImage(wide).keepIccProfile())
    t.ok(colourDistance(stored.data, CORNER_COLOURS.red) > 15, 'the stored numbers are others')
    for (const { bytes } of (await renderRenditions(wide)).renditions) {
      const { data } = await toPixels(openImage(bytes))
      t.ok(colourDistance(data, CORNER_COLOURS.red) < 10, `${format}: the colour is the same`)
      t.equal((await openImage(bytes).metadata()).icc, undefined)
    }
  }
})

/** How far the first pixel lies from a colour, in RGB space. */
function colourDistance(data: Uint8Array, colour: readonly number[]): number {
  return Math.hypot(...colour.map((value, channel) => value - (data[channel] ?? 0)))
}

t.test('no metadata leaves the original', async (t) => {
  for (const format of ['jpeg', 'png', 'webp', 'avif'] as const) {
    for (const alpha of format === 'jpeg' ? [false] : [false, true]) {
      const takenAt = new Date('2025-12-24T18:30:00Z')
      const original = await makePicture({ seed: 16, width: 400, height: 300, format, alpha, gps: VIENNA, takenAt, orientation: 6 })
      t.ok((await openImage(original).metadata()).exif?.includes('Monogram'), 'the original has EXIF')
      const rendered = await renderRenditions(original)
      t.same(rendered.takenAt, takenAt)
      for (const { bytes } of rendered.renditions) {
        const { exif, xmp, icc, iptc, orientation } = await openImage(bytes).metadata()
        t.same([exif, xmp, icc, iptc, orientation], [undefined, undefined, undefined, undefined, undefined])
        t.notOk(['Exif', 'EXIF', 'GPS', 'Monogram', 'http://ns.adobe'].some((word) => bytes.includes(word)))
      }
    }
  }
})
