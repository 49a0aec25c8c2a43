import type { Verdict } from '#domain/photos/photos.table.ts'
import { worstVerdict } from '#domain/photos/verdict.rules.ts'
import { decodeUpright } from '#platform/images/decode-upright.ts'
import { openPixels, toPixels } from '#platform/images/open-image.ts'
import type { DecodedPicture, Json, Screen } from './screen.ts'

/** PDQ's reference makes pictures this small before hashing them; a classifier needs less. */
const SCREEN_SIDE = 512

export interface Screening {
  readonly verdict: Verdict
  /** By screen: its own verdict and detail. */
  readonly detail: Readonly<Record<string, { readonly verdict: Verdict; readonly detail: Json }>>
}

/**
 * Puts an original, given by its path or its bytes, before every screen; the worst verdict wins.
 *
 * @throws UndecodableImageError when the file is at fault; whatever a screen throws when it cannot tell.
 */
export async function screenPicture(original: string | Uint8Array, screens: readonly Screen[]): Promise<Screening> {
  const picture = await decodeForScreens(original)
  const results = await Promise.all(screens.map(async (screen) => [screen.name, await screen.screen(picture)] as const))
  return { verdict: worstVerdict(results.map(([, { verdict }]) => verdict)), detail: Object.fromEntries(results) }
}

/** Decodes an original once for all screens. */
export async function decodeForScreens(original: string | Uint8Array): Promise<DecodedPicture> {
  const { pixels } = await decodeUpright(original, SCREEN_SIDE)
  const opaque = openPixels(pixels).flatten({ background: 'white' }).toColourspace('srgb')
  return { ...(await toPixels(opaque)), channels: 3 }
}
