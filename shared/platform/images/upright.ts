import { openPixels, toPixels } from './open-image.ts'
import type { Pixels } from './open-image.ts'

interface Turn {
  /** Left to right, before turning: the order in which the image library does them, however they are written. */
  isMirrored: boolean
  /** Clockwise. */
  degrees: 0 | 90 | 180 | 270
}

/** What makes a picture upright, by its EXIF orientation (CIPA DC-008, tag 0x0112). 1 needs nothing. */
const TURNS: readonly Turn[] = [
  { isMirrored: false, degrees: 0 },
  { isMirrored: true, degrees: 0 },
  { isMirrored: false, degrees: 180 },
  { isMirrored: true, degrees: 180 },
  { isMirrored: true, degrees: 270 },
  { isMirrored: false, degrees: 90 },
  { isMirrored: true, degrees: 90 },
  { isMirrored: false, degrees: 270 },
]

/** Turns a small picture upright. An orientation that EXIF does not know counts as 1. */
export async function turnUpright(pixels: Pixels, orientation: number | undefined): Promise<Pixels> {
  const turn = TURNS[(orientation ?? 1) - 1]
  if (turn === undefined || (turn.degrees === 0 && !turn.isMirrored)) return pixels
  return await toPixels(openPixels(pixels).flop(turn.isMirrored).rotate(turn.degrees))
}

/** Whether upright means that width and height change places. */
export function swapsSides(orientation: number | undefined): boolean {
  return orientation !== undefined && orientation >= 5 && orientation <= 8
}
