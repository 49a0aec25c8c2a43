import type { Id } from '#kernel/snowflake.ts'
import type { JsonPiece } from '../splice-json.ts'
import type { PhotoFragment } from './photos.cache.ts'

/** A published photo with its author's summary, ready to be shown. */
export interface ShownPhoto {
  readonly fragment: PhotoFragment
  /** The author's summary as JSON. */
  readonly account: Buffer
}

/** Joins fragments with their authors; photos whose author is gone are left out. */
export function withAuthors(
  fragments: readonly PhotoFragment[],
  summaries: ReadonlyMap<Id, Buffer>,
): ShownPhoto[] {
  return fragments.flatMap((fragment) => {
    const account = summaries.get(fragment.accountId)
    return account === undefined ? [] : [{ fragment, account }]
  })
}

/**
 * A photo's JSON, in pieces; what depends on who looks comes last. Nothing can be liked yet.
 *
 * The fields are those of `PhotoJson`, in its order.
 */
export function photoPieces({ fragment, account }: ShownPhoto): JsonPiece[] {
  return [`{"id":"${fragment.id}","account":`, account, ',', fragment.facts, ',"liked":false}']
}
