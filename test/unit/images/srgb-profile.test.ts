import t from 'tap'
import { openImage, openPixels, toPixels } from '#platform/images/open-image.ts'
import { isSrgbProfile } from '#platform/images/srgb-profile.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { SCREENSHOT_PNG } from '../../support/pdq-vectors.ts'

async function profileOf(picture: Buffer): Promise<Buffer> {
  return (await openImage(picture).metadata()).icc ?? t.fail('no profile') as never
}

t.test('sRGB is known by what it does', async (t) => {
  const srgb = await profileOf(await makePicture({ seed: 50, width: 8, height: 8 }))
  t.equal(isSrgbProfile(srgb), true)
  t.equal(isSrgbProfile(await profileOf(await makePicture({ seed: 50, width: 8, height: 8, profile: 'p3' }))), false)
  t.equal(isSrgbProfile(await profileOf(SCREENSHOT_PNG)), false, 'the profile of a display')
  const cmyk = await openPixels({ data: new Uint8Array(64), width: 8, height: 8, channels: 1 }).withIccProfile('cmyk').jpeg().toBuffer()
  t.equal(isSrgbProfile(await profileOf(cmyk)), false)
})

t.test('a damaged profile is not sRGB, and does no harm', async (t) => {
  const srgb = await profileOf(await makePicture({ seed: 50, width: 8, height: 8 }))
  t.equal(isSrgbProfile(Buffer.alloc(0)), false)
  t.equal(isSrgbProfile(Buffer.alloc(200, 0xff)), false)
  for (let length = 0; length < srgb.length; length += 7) isSrgbProfile(srgb.subarray(0, length))
  for (const name of ['rXYZ', 'bTRC']) {
    const other = Buffer.from(srgb)
    other.write('none', other.indexOf(name), 'latin1')
    t.equal(isSrgbProfile(other), false, `without ${name}`)
  }
})

t.test('leaving the conversion out changes no pixel by more than its rounding', async (t) => {
  const picture = await makePicture({ seed: 51, width: 300, height: 200, format: 'png' })
  const converted = await toPixels(openImage(picture))
  const left = await toPixels(openImage(picture, { ignoreProfile: true }))
  const difference = converted.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (left.data[i] ?? 0))), 0)
  t.ok(difference <= 1, `off by ${String(difference)}`)
})
