import sharp from 'sharp'
import type { Sharp } from 'sharp'
import { IMAGE_DEADLINE_SECONDS, MAX_IMAGE_PIXELS } from './limits.ts'

// libvips opens some thirty formats, SVG and PDF among them. Everything is shut, then four decoders are opened.
sharp.block({ operation: ['VipsForeignLoad'] })
sharp.unblock({
  operation: ['VipsForeignLoadJpeg', 'VipsForeignLoadPng', 'VipsForeignLoadWebp', 'VipsForeignLoadHeif'],
})
// Every picture is seen once, so a cache of operations only holds memory. One thread a picture: the worker keeps
// as many in flight as it has cores, which gives more pictures a second than splitting each (docs/performance.md).
sharp.cache(false)
sharp.concurrency(1)

/** Whether this build of libvips decodes HEIC: the one that npm installs holds AV1, not the patented HEVC. */
export const HEIC_DECODABLE: boolean = sharp.format.heif.input.fileSuffix?.includes('.heic') ?? false

/**
 * Opens an original, from its path or its bytes; nothing is decoded yet. Only the first frame is read, in one pass
 * from top to bottom. The picture is not turned upright: who needs that reads `orientation` from its metadata.
 * Errors come when the pipeline runs, and `explainImageError` sorts them.
 *
 * An embedded colour profile is honoured, in the pipeline's pixels, unless told not to.
 *
 * `failOn: 'warning'` refuses a damaged or shortened file; anything laxer gives a picture with a grey lower half.
 */
export function openImage(input: string | Uint8Array, options: { ignoreProfile?: boolean } = {}): Sharp {
  return sharp(input, {
    ignoreIcc: options.ignoreProfile ?? false,
    failOn: 'warning',
    limitInputPixels: MAX_IMAGE_PIXELS,
    pages: 1,
    sequentialRead: true,
  }).timeout({ seconds: IMAGE_DEADLINE_SECONDS })
}

/** Uncompressed pixels, row by row, 8 bits a channel: 1 grey, 3 RGB or 4 RGBA. */
export interface Pixels {
  data: Uint8Array
  width: number
  height: number
  channels: 1 | 3 | 4
}

/** Starts a pipeline from pixels that are decoded already. */
export function openPixels(pixels: Pixels): Sharp {
  const { data, width, height, channels } = pixels
  return sharp(data, { raw: { width, height, channels } }).timeout({ seconds: IMAGE_DEADLINE_SECONDS })
}

/** Runs a pipeline to its pixels. Throws what the image library throws. */
export async function toPixels(pipeline: Sharp): Promise<Pixels> {
  const { data, info } = await pipeline.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
  if (info.channels === 2) throw new Error('grey with alpha: convert to sRGB first')
  return { data, width: info.width, height: info.height, channels: info.channels }
}
