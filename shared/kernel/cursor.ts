import { problem } from './errors.ts'
import { murmur3 } from './murmur3.ts'

/**
 * A cursor is where a keyset list goes on, opaque to clients:
 *
 *   base64url( version (1 byte) | murmur3 of the list's kind (4) | position (8), position (8) … )
 */
const VERSION = 1
const HEAD_BYTES = 5
const POSITION_BYTES = 8
const POSITIONS_MAX = 8
const TEXT_CHARS_MAX = Math.ceil(((HEAD_BYTES + POSITIONS_MAX * POSITION_BYTES) * 4) / 3)

/**
 * Makes the cursor of a list.
 * @param kind names the list and its order, such as `photo.likes`: a cursor of one kind is refused by another.
 * @param positions the last row's keyset, each within a signed 64-bit integer.
 * @throws RangeError for a position outside that range, or more than eight of them.
 */
export function encodeCursor(kind: string, ...positions: bigint[]): string {
  if (positions.length > POSITIONS_MAX) throw new RangeError(`a cursor holds ${String(POSITIONS_MAX)} positions at most`)
  const bytes = Buffer.alloc(HEAD_BYTES + positions.length * POSITION_BYTES)
  bytes.writeUInt8(VERSION, 0)
  bytes.writeUInt32BE(murmur3(kind), 1)
  positions.forEach((position, i) => bytes.writeBigInt64BE(position, HEAD_BYTES + i * POSITION_BYTES))
  return bytes.toString('base64url')
}

/**
 * Reads a cursor back that a client sent.
 * @param count how many positions the list needs; leave it out to take as many as there are.
 * @throws ProblemError `invalid_request` for anything that `encodeCursor(kind, …)` did not write.
 */
export function decodeCursor(kind: string, text: string, count?: number): bigint[] {
  const positions = readPositions(kind, text)
  if (positions === undefined || (count !== undefined && positions.length !== count)) {
    throw problem('invalid_request', 'The cursor is not one that this list gave out.', {
      errors: [{ path: '/query/cursor', code: 'invalid', message: 'is not a cursor of this list' }],
    })
  }
  return positions
}

function readPositions(kind: string, text: string): bigint[] | undefined {
  if (text.length > TEXT_CHARS_MAX) return undefined
  const bytes = Buffer.from(text, 'base64url')
  // Node skips over characters that are not base64url: only what encodes back to the same text is one of ours.
  if (bytes.toString('base64url') !== text) return undefined
  if (bytes.length < HEAD_BYTES || (bytes.length - HEAD_BYTES) % POSITION_BYTES !== 0) return undefined
  if (bytes.readUInt8(0) !== VERSION || bytes.readUInt32BE(1) !== murmur3(kind)) return undefined
  const positions: bigint[] = []
  for (let at = HEAD_BYTES; at < bytes.length; at += POSITION_BYTES) positions.push(bytes.readBigInt64BE(at))
  return positions
}
