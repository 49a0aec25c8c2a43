import { encode } from 'blurhash'
import { decodeUpright, resizePixels } from '#platform/images/decode-upright.ts'
import { fitInside } from '#platform/images/fit-inside.ts'
import { openPixels, toPixels } from '#platform/images/open-image.ts'
import type { Pixels } from '#platform/images/open-image.ts'
import { JPEG_OPTIONS, RENDITION_SPECS, WEBP_OPTIONS } from './rendition-specs.ts'
import type { RenditionName } from './rendition-specs.ts'
import { readTakenAt } from './taken-at.ts'

const [LARGEST, ...SMALLER] = RENDITION_SPECS

export interface Rendition {
  name: RenditionName
  width: number
  height: number
  format: 'jpeg' | 'webp'
  bytes: Buffer
}

export interface Rendered {
  /** The upright size of the original, in pixels. */
  width: number
  height: number
  blurhash: string
  takenAt: Date | null
  /** All four, smallest first. */
  renditions: Rendition[]
}

/** A blurhash says little: it is made from a picture this small, and keeps this many waves along each side. */
const BLURHASH_SIDE = 32
const BLURHASH_WAVES_LONG = 4
const BLURHASH_WAVES_SHORT = 3

/**
 * Makes all renditions of an original, given by its path or its bytes. They are upright, in sRGB and carry no
 * metadata: EXIF and GPS positions stay in the original. It is decoded once, and each rendition is made from the
 * one above it.
 *
 * @throws UndecodableImageError when the file is at fault; other errors are worth another try.
 */
export async function renderRenditions(original: string | Uint8Array): Promise<Rendered> {
  const { pixels: large, size, hasAlpha, exif } = await decodeUpright(original, LARGEST.side)
  const cascade: { name: RenditionName; pixels: Pixels }[] = [{ name: LARGEST.name, pixels: large }]
  let smallest = large
  for (const { name, side } of SMALLER) {
    smallest = await resizePixels(smallest, fitInside(size, side))
    cascade.unshift({ name, pixels: smallest })
  }
  const [blurhash, ...renditions] = await Promise.all([
    blurhashOf(smallest),
    ...cascade.map(({ name, pixels }) => encodeAs(name, hasAlpha ? 'webp' : 'jpeg', pixels)),
  ])
  return { ...size, blurhash, takenAt: readTakenAt(exif), renditions }
}

async function encodeAs(name: RenditionName, format: 'jpeg' | 'webp', pixels: Pixels): Promise<Rendition> {
  const pipeline = openPixels(pixels)
  const bytes = await (format === 'webp' ? pipeline.webp(WEBP_OPTIONS) : pipeline.jpeg(JPEG_OPTIONS)).toBuffer()
  return { name, width: pixels.width, height: pixels.height, format, bytes }
}

/** The placeholder that clients show while a picture loads (blurha.sh); what is transparent counts as white. */
async function blurhashOf(pixels: Pixels): Promise<string> {
  const small = await resizePixels(pixels, fitInside(pixels, BLURHASH_SIDE))
  const opaque = openPixels(small).flatten({ background: 'white' }).toColourspace('srgb').ensureAlpha()
  const { data, width, height } = await toPixels(opaque)
  const [across, down] = width >= height ? [BLURHASH_WAVES_LONG, BLURHASH_WAVES_SHORT] : [BLURHASH_WAVES_SHORT, BLURHASH_WAVES_LONG]
  return encode(new Uint8ClampedArray(data), width, height, across, down)
}
