import { fitInside } from './fit-inside.ts'
import type { Size } from './fit-inside.ts'
import { openImage, openPixels, toPixels } from './open-image.ts'
import type { Pixels } from './open-image.ts'
import { isSrgbProfile } from './srgb-profile.ts'
import { explainImageError } from './undecodable-image-error.ts'
import { swapsSides, turnUpright } from './upright.ts'

/** A picture in memory, and what its file says of it. */
export interface Decoded {
  /** Upright, in sRGB: RGB, or RGBA where the original has an alpha channel. */
  pixels: Pixels
  /** The upright size of the original. */
  size: Size
  hasAlpha: boolean
  /** The EXIF block as it stands in the file. */
  exif: Buffer | undefined
}

/**
 * Decodes an original, given by its path or its bytes, to fit inside a square. The JPEG decoder itself decodes at
 * 1/2, 1/4 or 1/8 where that is enough. The picture is turned upright only when small: fitting inside a square does
 * not care which way up it is, and turning 50 megapixels would hold all of them in memory.
 *
 * @param side of the square, in pixels; a smaller picture keeps its size.
 * @throws UndecodableImageError when the file is at fault; other errors are worth another try.
 */
export async function decodeUpright(original: string | Uint8Array, side: number): Promise<Decoded> {
  try {
    const { width, height, orientation, hasAlpha, exif, icc } = await openImage(original).metadata()
    const stored = fitInside({ width, height }, side)
    const ignoreProfile = icc !== undefined && isSrgbProfile(icc)
    const pipeline = openImage(original, { ignoreProfile }).resize({ ...stored, fit: 'fill' }).toColourspace('srgb')
    const pixels = await turnUpright(await toPixels(pipeline), orientation)
    const size = swapsSides(orientation) ? { width: height, height: width } : { width, height }
    return { pixels, size, hasAlpha, exif }
  } catch (error) {
    throw explainImageError(error)
  }
}

/** Resizes decoded pixels, to just that size. */
export async function resizePixels(pixels: Pixels, size: Size): Promise<Pixels> {
  if (pixels.width === size.width && pixels.height === size.height) return pixels
  return await toPixels(openPixels(pixels).resize({ ...size, fit: 'fill' }))
}
