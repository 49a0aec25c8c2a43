const SCRATCH_BYTES = 1_024
const C1 = 0xcc9e2d51
const C2 = 0x1b873593

const encoder = new TextEncoder()
const scratch = new Uint8Array(SCRATCH_BYTES)

/**
 * MurmurHash3_x86_32 of a text's UTF-8 bytes: an unsigned 32-bit number.
 * The one hash of the kernel: fast on short keys, even in all its bits, and not for secrets.
 * Source: Austin Appleby's SMHasher, MurmurHash3.cpp (public domain).
 */
export function murmur3(text: string, seed = 0): number {
  // A UTF-16 unit takes at most three bytes of UTF-8.
  const fits = text.length * 3 <= SCRATCH_BYTES
  const bytes = fits ? scratch : encoder.encode(text)
  const length = fits ? encoder.encodeInto(text, scratch).written : bytes.length
  const body = length & ~3

  let hash = seed
  for (let at = 0; at < body; at += 4) {
    hash = rotate(hash ^ scramble(wordAt(bytes, at, 4)), 13)
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0
  }
  hash ^= scramble(wordAt(bytes, body, length & 3)) ^ length

  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** The `count` (0 … 4) bytes from `at`, little-endian. */
function wordAt(bytes: Uint8Array, at: number, count: number): number {
  let word = 0
  for (let i = 0; i < count; i++) word |= (bytes[at + i] ?? 0) << (8 * i)
  return word
}

function scramble(word: number): number {
  return Math.imul(rotate(Math.imul(word, C1), 15), C2)
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits))
}
