import t from 'tap'
import { HEIC_DECODABLE } from '#platform/images/open-image.ts'
import { sniffMediaType } from '#platform/images/sniff.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import {
  makeManyFrameGif, makePngBomb, makePolyglot, makeSvg, makeText, makeTruncatedJpeg,
} from '../../support/hostile-pictures.ts'

t.test('names each format by its first bytes', async (t) => {
  for (const format of ['jpeg', 'png', 'webp', 'avif'] as const) {
    const picture = await makePicture({ seed: 1, width: 64, height: 48, format })
    t.equal(sniffMediaType(picture), `image/${format}`)
    t.equal(sniffMediaType(picture.subarray(0, 64)), `image/${format}`)
  }
  t.equal(sniffMediaType(await makePolyglot()), 'image/jpeg')
  t.equal(sniffMediaType(await makeTruncatedJpeg()), 'image/jpeg')
  t.equal(sniffMediaType(await makePngBomb()), 'image/png')
})

t.test('accepts HEIC only where it can be decoded', async (t) => {
  const heic = Buffer.from('\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic', 'latin1')
  t.equal(sniffMediaType(heic), HEIC_DECODABLE ? 'image/heic' : undefined)
  const mif1 = Buffer.from('\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif', 'latin1')
  t.equal(sniffMediaType(mif1), 'image/avif', 'a compatible brand counts as well')
  const minor = Buffer.from('\x00\x00\x00\x14ftypmp42avif isom', 'latin1')
  t.equal(sniffMediaType(minor), undefined, 'the minor version is no brand')
})

t.test('refuses everything else', async (t) => {
  for (const bytes of [makeSvg(), makeManyFrameGif(), makeText(), Buffer.alloc(0), Buffer.from([0xff, 0xd8]), Buffer.from('RIFF0000WAVE')]) {
    t.equal(sniffMediaType(bytes), undefined, bytes.toString('latin1', 0, 12))
  }
  t.equal(sniffMediaType(Buffer.from('\xff\xff\xff\xffftyp', 'latin1')), undefined)
})
