import type { JsonPiece } from '../splice-json.ts'
import type { PhotoFragment } from './photos.cache.ts'

/** A published photo with its author's summary, ready to be shown. */
export interface ShownPhoto {
  readonly fragment: PhotoFragment
  /** The author's summary as JSON. */
  readonly account: Buffer
}

/**
 * Joins fragments with their authors; photos whose author is gone are left out.
 * @param summaries of each fragment's author, in the order of the fragments
 */
export function withAuthors(
  fragments: readonly PhotoFragment[],
  summaries: readonly (Buffer | undefined)[],
): ShownPhoto[] {
  const shown: ShownPhoto[] = []
  for (const [at, fragment] of fragments.entries()) {
    const account = summaries[at]
    if (account !== undefined) shown.push({ fragment, account })
  }
  return shown
}

/**
 * Adds a photo's JSON, in pieces; what depends on who looks comes last. Nothing can be liked yet.
 *
 * The fields are those of `PhotoJson`, in its order.
 */
export function addPhoto(pieces: JsonPiece[], { fragment, account }: ShownPhoto): void {
  pieces.push(fragment.head, account, fragment.facts, ',"liked":false}')
}
