import type { Id } from '#kernel/snowflake.ts'
import { profileKey } from '../accounts/accounts.keys.ts'

/** A published photo, rendered. */
export function photoKey(id: Id): string {
  return `photo:${id}`
}

/** The newest published photos of an account, as places. */
export function accountPlacesKey(accountId: Id): string {
  return `photos:${accountId}`
}

/** Keys made stale by a photo's making (somebody may have asked for its id before) and by a change of its facts. */
export function keysOfPhotoChange(photoId: Id): string[] {
  return [photoKey(photoId)]
}

/** Keys made stale when a photo becomes published, or was and is no more: its account's list and count change too. */
export function keysOfPublication(photoId: Id, accountId: Id): string[] {
  return [photoKey(photoId), accountPlacesKey(accountId), profileKey(accountId)]
}
