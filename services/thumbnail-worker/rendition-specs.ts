/**
 * The renditions of every photo, largest first: each is made from the one before it. Every picture has all of them:
 * fit inside a square of this side, never enlarged.
 */
export const RENDITION_SPECS = [
  { name: 'large', side: 1080 },
  { name: 'medium', side: 640 },
  { name: 'small', side: 320 },
  { name: 'thumb', side: 150 },
] as const

export type RenditionName = (typeof RENDITION_SPECS)[number]['name']

/** How an opaque picture is written. mozjpeg would save a tenth of the bytes for half of the speed. */
export const JPEG_OPTIONS = { quality: 80, mozjpeg: false } as const

/** How a picture with an alpha channel is written. */
export const WEBP_OPTIONS = { quality: 80, effort: 2 } as const
