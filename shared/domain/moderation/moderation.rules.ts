/** How long a photo stays with the moderator who claimed it. */
export const CLAIM_MS = 15 * 60_000
export const NOTE_CHARACTERS_MAX = 1_000

/** What a moderator may say of a photo. */
export type Decision = 'clean' | 'reject'
