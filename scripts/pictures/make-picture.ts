import { openPixels, toPixels } from '#platform/images/open-image.ts'
import type { Pixels } from '#platform/images/open-image.ts'
import { markCorners } from './corners.ts'
import { drawScene } from './draw.ts'
import { exifWith } from './exif.ts'
import type { ExifFields } from './exif.ts'
import { thinkUpScene } from './scene.ts'

export type PictureFormat = 'jpeg' | 'png' | 'webp' | 'avif'

export interface PictureOptions extends ExifFields {
  /** The same seed and size give the same picture. */
  seed: number
  /** The size as seen, upright, in pixels. With an orientation of 5 to 8 it is stored the other way round. */
  width: number
  height: number
  format?: PictureFormat
  /** EXIF orientation, 1 to 8 (CIPA DC-008, tag 0x0112): how the camera was held. */
  orientation?: number
  /** 1 to 100. */
  quality?: number
  /** Whether it has an alpha channel (not for JPEG), transparent towards the lower edge. */
  alpha?: boolean
  /** Stores the colours in this profile, embedded, instead of sRGB. */
  profile?: 'p3'
  /** Whether the corners are marked in colours, for tests of which way up it is. */
  corners?: boolean
}

const DEFAULT_QUALITY = 80

/**
 * Renders a landscape that passes for a photograph (no two seeds alike, detail everywhere, a few dozen kilobytes),
 * as a file with EXIF, for the seed script, the tests and the benchmarks.
 */
export async function makePicture(options: PictureOptions): Promise<Buffer> {
  const { seed, width, height, format = 'jpeg', orientation = 1, quality = DEFAULT_QUALITY } = options
  const upright = drawScene(thinkUpScene(seed), width, height, options.alpha ?? false)
  if (options.corners ?? false) markCorners(upright)
  const stored = await turnBack(upright, orientation)
  const { IFD0, IFD2, IFD3 } = exifWith(options)
  // The library writes the orientation itself, last, so it cannot be one of the EXIF fields.
  const pipeline = openPixels(stored)
    .withMetadata({ orientation })
    .withExif({ IFD0, IFD2, IFD3 })
    .withIccProfile(options.profile ?? 'srgb')
  switch (format) {
    case 'jpeg':
      return await pipeline.jpeg({ quality }).toBuffer()
    case 'png':
      return await pipeline.png({ compressionLevel: 6 }).toBuffer()
    case 'webp':
      return await pipeline.webp({ quality, effort: 1 }).toBuffer()
    case 'avif':
      return await pipeline.avif({ quality: quality - 20, effort: 0 }).toBuffer()
  }
}

/** How a camera held that way stores an upright scene: by EXIF orientation, mirrored first and then clockwise. */
const STORED: readonly { isMirrored: boolean; degrees: number }[] = [
  { isMirrored: false, degrees: 0 },
  { isMirrored: true, degrees: 0 },
  { isMirrored: false, degrees: 180 },
  { isMirrored: true, degrees: 180 },
  { isMirrored: true, degrees: 270 },
  { isMirrored: false, degrees: 270 },
  { isMirrored: true, degrees: 90 },
  { isMirrored: false, degrees: 90 },
]

async function turnBack(upright: Pixels, orientation: number): Promise<Pixels> {
  const { isMirrored, degrees } = STORED[orientation - 1] ?? { isMirrored: false, degrees: 0 }
  const mirrored = isMirrored ? await toPixels(openPixels(upright).flop()) : upright
  return degrees === 0 ? mirrored : await toPixels(openPixels(mirrored).rotate(degrees))
}
