import { encode } from 'blurhash'
import { openImage, openPixels, toPixels } from '#platform/images/open-image.ts'
import type { Pixels } from '#platform/images/open-image.ts'
import { explainImageError } from '#platform/images/undecodable-image-error.ts'
import { fitInside, JPEG_OPTIONS, RENDITION_SPECS, WEBP_OPTIONS } from './rendition-specs.ts'
import type { RenditionName } from './rendition-specs.ts'
import { readTakenAt } from './taken-at.ts'
import { swapsSides, turnUpright } from './upright.ts'

type Size = Pick<Pixels, 'width' | 'height'>

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
 * metadata: EXIF and GPS positions stay in the original.
 *
 * The original is decoded once, by the JPEG decoder at 1/2, 1/4 or 1/8 where that is enough, and each rendition is
 * made from the one above it. It is turned upright only when small: fitting inside a square does not care which way
 * up a picture is, and turning 50 megapixels would hold all of them in memory.
 *
 * @throws UndecodableImageError when the file is at fault; other errors are worth another try.
 */
export async function renderRenditions(original: string | Uint8Array): Promise<Rendered> {
  try {
    return await render(original)
  } catch (error) {
    throw explainImageError(error)
  }
}

async function render(original: string | Uint8Array): Promise<Rendered> {
  const metadata = await openImage(original).metadata()
  const { width, height } = uprightSize(metadata)
  const takenAt = readTakenAt(metadata.exif)
  const format = metadata.hasAlpha ? 'webp' : 'jpeg'

  const large = await decode(original, fitInside(width, height, LARGEST.side), metadata.orientation)
  const cascade: { name: RenditionName; pixels: Pixels }[] = [{ name: LARGEST.name, pixels: large }]
  let smallest = large
  for (const { name, side } of SMALLER) {
    smallest = await shrink(smallest, fitInside(width, height, side))
    cascade.unshift({ name, pixels: smallest })
  }
  const [blurhash, ...renditions] = await Promise.all([
    blurhashOf(smallest),
    ...cascade.map(({ name, pixels }) => encodeAs(name, format, pixels)),
  ])
  return { width, height, blurhash, takenAt, renditions }
}

function uprightSize({ width, height, orientation }: Size & { orientation?: number | undefined }): Size {
  return swapsSides(orientation) ? { width: height, height: width } : { width, height }
}

/** Decodes an original to a size, upright, as RGB or RGBA in sRGB. */
async function decode(original: string | Uint8Array, size: Size, orientation: number | undefined): Promise<Pixels> {
  const stored = uprightSize({ ...size, orientation })
  const pipeline = openImage(original).resize({ ...stored, fit: 'fill' }).toColourspace('srgb')
  return await turnUpright(await toPixels(pipeline), orientation)
}

async function shrink(pixels: Pixels, size: Size): Promise<Pixels> {
  if (pixels.width === size.width && pixels.height === size.height) return pixels
  return await toPixels(openPixels(pixels).resize({ ...size, fit: 'fill' }))
}

async function encodeAs(name: RenditionName, format: 'jpeg' | 'webp', pixels: Pixels): Promise<Rendition> {
  const pipeline = openPixels(pixels)
  const bytes = await (format === 'webp' ? pipeline.webp(WEBP_OPTIONS) : pipeline.jpeg(JPEG_OPTIONS)).toBuffer()
  return { name, width: pixels.width, height: pixels.height, format, bytes }
}

/** The placeholder that clients show while a picture loads (blurha.sh); what is transparent counts as white. */
async function blurhashOf(pixels: Pixels): Promise<string> {
  const opaque = openPixels(pixels).flatten({ background: 'white' }).toColourspace('srgb').ensureAlpha()
  const size = fitInside(pixels.width, pixels.height, BLURHASH_SIDE)
  const small = await toPixels(opaque.resize({ ...size, fit: 'fill' }))
  const isWide = small.width >= small.height
  return encode(
    new Uint8ClampedArray(small.data),
    small.width,
    small.height,
    isWide ? BLURHASH_WAVES_LONG : BLURHASH_WAVES_SHORT,
    isWide ? BLURHASH_WAVES_SHORT : BLURHASH_WAVES_LONG,
  )
}
