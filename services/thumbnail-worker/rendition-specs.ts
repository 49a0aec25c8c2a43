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

/**
 * The size of a picture that fits inside a square and keeps its proportions; a smaller one stays as it is. Always
 * reckoned from the original: rounding anew at each step of the cascade would drift by a pixel.
 */
export function fitInside(width: number, height: number, side: number): { width: number; height: number } {
  const scale = Math.min(1, side / Math.max(width, height))
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) }
}
