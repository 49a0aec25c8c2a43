const KEY_CHARACTERS_MAX = 200
/** Each part begins with a letter or a digit: no `..`, no hidden file, no empty part, no absolute path. */
const KEY = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/

/**
 * The type of a blob is the extension of its key, so that every kind of store (and a plain copy from one to
 * another) agrees on it.
 */
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  jpg: 'image/jpeg',
  png: 'image/png',
  webp: 'image/webp',
  avif: 'image/avif',
  heic: 'image/heic',
  json: 'application/json',
}
const CONTENT_TYPE_UNKNOWN = 'application/octet-stream'

/** True for a well-formed key: 1 to 200 characters of A-Z a-z 0-9 . _ - in parts joined by `/`. */
export function isBlobKey(key: string): boolean {
  return key.length <= KEY_CHARACTERS_MAX && KEY.test(key)
}

/** @throws TypeError for a malformed key: keys are made by us, so it is a fault in the program */
export function assertBlobKey(key: string): void {
  if (!isBlobKey(key)) throw new TypeError(`"${key.slice(0, KEY_CHARACTERS_MAX)}" is not a blob key`)
}

/** @throws TypeError unless `prefix` is a well-formed key with a `/` behind it */
export function assertBlobPrefix(prefix: string): void {
  if (!prefix.endsWith('/')) throw new TypeError(`the blob prefix "${prefix}" does not end in "/"`)
  assertBlobKey(prefix.slice(0, -1))
}

/** The media type of a key by its extension; `application/octet-stream` for one that we do not know, or none. */
export function contentTypeOf(key: string): string {
  const extension = /\.([a-z0-9]+)$/.exec(key)?.[1]
  return (extension === undefined ? undefined : CONTENT_TYPES[extension]) ?? CONTENT_TYPE_UNKNOWN
}

/** The extension (without a dot) of keys of that media type; undefined for a type that has none here. */
export function extensionOf(contentType: string): string | undefined {
  return Object.keys(CONTENT_TYPES).find((extension) => CONTENT_TYPES[extension] === contentType)
}
