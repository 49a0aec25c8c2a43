import { createHmac } from 'node:crypto'
import { problem } from '#kernel/errors.ts'
import { parseId, type Id } from '#kernel/snowflake.ts'
import type { PhotoStatus } from './photos.table.ts'

export const UPLOAD_BYTES_MAX = 20 * 1024 * 1024
export const CAPTION_CHARACTERS_MAX = 2_200
export const TAGS_MAX = 30
export const TAG_CHARACTERS_MAX = 100

const TAG = new RegExp(`(?<![\\p{L}\\p{N}_&/])#([\\p{L}\\p{N}_]{1,${TAG_CHARACTERS_MAX}})(?![\\p{L}\\p{N}_])`, 'gu')

/** A caption as it is stored, and the tags in it: lower-cased, once each, in order of appearance. */
export interface Caption {
  readonly text: string
  readonly tags: string[]
}

/**
 * Normalises a caption (NFC, outer white space removed) and finds its hashtags.
 *
 * @throws ProblemError invalid_request over 2,200 characters (code points) or with a NUL, too_many_tags over 30
 */
export function parseCaption(raw: string): Caption {
  const text = raw.normalize('NFC').trim()
  const { length } = Array.from(text)
  if (length > CAPTION_CHARACTERS_MAX || text.includes('\0')) {
    const message = text.includes('\0')
      ? 'must not contain NUL characters'
      : `must have at most ${CAPTION_CHARACTERS_MAX} characters, not ${length}`
    throw problem('invalid_request', `The caption ${message}.`, {
      errors: [{ path: '/body/caption', code: 'invalid', message }],
    })
  }
  const tags = [...new Set([...text.matchAll(TAG)].map((match) => (match[1] ?? '').normalize('NFKC').toLowerCase()))]
  if (tags.length > TAGS_MAX) {
    throw problem('too_many_tags', `The caption has ${tags.length} tags; at most ${TAGS_MAX} are allowed.`)
  }
  return { text, tags }
}

/** Who asks to see a photo. */
export interface Viewer {
  readonly accountId: Id
  readonly role: 'member' | 'moderator'
}

/** Whether a viewer (null: anonymous) may see a photo of an active account at all; what it may not see does not exist. */
export function maySeePhoto(
  photo: { readonly status: PhotoStatus; readonly account_id: Id },
  viewer: Viewer | null,
): boolean {
  if (photo.status === 'deleted') return false
  if (photo.status === 'published') return true
  return viewer !== null && (viewer.accountId === photo.account_id || viewer.role === 'moderator')
}

/** Below it lies everything that was uploaded. */
export const ORIGINALS_PREFIX = 'originals/'

/**
 * The folder of everything that was uploaded for a photo; never served. Each try has a folder of its own in it, and one
 * that did not live to record its photo leaves its file there.
 *
 * @returns a key prefix that ends in a slash
 */
export function originalsFolder(photoId: Id): string {
  return `${ORIGINALS_PREFIX}${photoId}/`
}

/** The photo for which a blob in one of those folders was uploaded; undefined for any other key. */
export function photoIdOfOriginal(key: string): Id | undefined {
  const folder = /^originals\/(\d+)\//.exec(key)
  return folder?.[1] === undefined ? undefined : parseId(folder[1])
}

const MEDIA_PREFIX = 'media'

/**
 * The folder of a photo's renditions: the same at every delivery of the job, and not to be guessed from the id.
 *
 * @returns a key prefix that ends in a slash
 */
export function renditionFolder(secretKey: string, photoId: Id): string {
  const secret = createHmac('sha256', secretKey).update(`renditions of ${photoId}`).digest('hex').slice(0, 32)
  return `${MEDIA_PREFIX}/${photoId}/${secret}/`
}

/** True for the keys that /media may serve: renditions, and nothing else that the blob store holds. */
export function isMediaKey(key: string): boolean {
  return /^media\/[0-9]{1,19}\/[0-9a-f]{32}\/[a-z]+\.(jpg|webp)$/.test(key)
}
