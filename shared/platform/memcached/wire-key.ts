import { createHash } from 'node:crypto'

/** The protocol's limit; a longer key would hang memjs's next operation. */
const KEY_BYTES_MAX = 250
/** What memcached's text tools and every proxy take as a key: printable ASCII without the space. */
const PLAIN = /^[\x21-\x7e]+$/

/**
 * The key as it travels: prefixed, and hashed (SHA-256, 43 characters) when it is too long or has other bytes than
 * printable ASCII.
 * @param prefix ours: short, printable ASCII
 */
export function wireKey(prefix: string, key: string): string {
  if (prefix.length + key.length <= KEY_BYTES_MAX && PLAIN.test(key) && !key.startsWith('#')) return prefix + key
  return `${prefix}#${createHash('sha256').update(key).digest('base64url')}`
}
