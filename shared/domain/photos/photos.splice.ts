import type { JsonPiece } from '../splice-json.ts'
import type { PhotoFragment } from './photos.cache.ts'

/** A published photo with its author's summary, ready to be shown. */
export interface ShownPhoto {
  readonly fragment: PhotoFragment
  /** The author's summary as JSON. */
  readonly account: Buffer
}

/**
 * Adds a photo's JSON, in pieces; what depends on who looks comes last. Nothing can be liked yet.
 *
 * The fields are those of `PhotoJson`, in its order.
 */
export function addPhoto(pieces: JsonPiece[], { fragment, account }: ShownPhoto): void {
  pieces.push(fragment.head, account, fragment.facts, ',"liked":false}')
}
