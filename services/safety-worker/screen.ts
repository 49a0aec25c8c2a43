import type { Verdict } from '#domain/photos/photos.table.ts'
import type { Pixels } from '#platform/images/open-image.ts'

/** What a screen looks at: upright RGB in sRGB, at most `SCREEN_SIDE` on its longer side, transparency over white. */
export interface DecodedPicture extends Pixels {
  channels: 3
}

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

/** A verdict and what it rests on, for the moderators who will look at it. */
export interface ScreenResult {
  readonly verdict: Verdict
  readonly detail: Json
}

/** One test that every uploaded picture goes through. */
export interface Screen {
  /** Names its part of the verdict's detail; never changed once it is in use. */
  readonly name: string
  /** Judges a picture. Throws when it cannot tell: the photo then waits, it is never waved through. */
  screen(picture: DecodedPicture): Promise<ScreenResult>
  close(): Promise<void>
}
