import { crc32 } from 'node:zlib'

/**
 * What every value of ours is wrapped in, so that a reader never takes other bytes for it: bytes cut short, bytes of
 * another key, bytes of somebody else's program.
 *
 *    0      1      2          3          4          8          12
 *   +------+------+----------+----------+----------+----------+---------
 *   | 0xcf | kind | version  | reserved | length   | CRC-32   | payload
 *   +------+------+----------+----------+----------+----------+---------
 *
 * The checksum covers the key too, the kind and the payload; integers are big-endian.
 */
export type Envelope =
  | { readonly kind: 'value'; readonly bytes: Buffer }
  /** The thing is known not to exist. */
  | { readonly kind: 'absent' }
  /** Somebody is fetching it: the placeholder of a lease. */
  | { readonly kind: 'lease' }

const MAGIC = 0xcf
const VERSION = 1
export const ENVELOPE_BYTES = 12
const KINDS = ['value', 'absent', 'lease'] as const
const NOTHING = Buffer.alloc(0)

/** Wraps bytes, or a fact without bytes, for the key that it will be stored under. */
export function seal(wireKey: string, envelope: Envelope): Buffer {
  const payload = envelope.kind === 'value' ? envelope.bytes : NOTHING
  const sealed = Buffer.allocUnsafe(ENVELOPE_BYTES + payload.length)
  const kind = KINDS.indexOf(envelope.kind)
  sealed[0] = MAGIC
  sealed[1] = kind
  sealed[2] = VERSION
  sealed[3] = 0
  sealed.writeUInt32BE(payload.length, 4)
  sealed.writeUInt32BE(checksum(wireKey, kind, payload), 8)
  payload.copy(sealed, ENVELOPE_BYTES)
  return sealed
}

/**
 * Unwraps what came back for a key, without copying.
 *
 * @param sealed has it from `start` to before `end`
 * @returns undefined when it is not, byte for byte, what we stored there
 */
export function unseal(wireKey: string, sealed: Buffer, start = 0, end = sealed.length): Envelope | undefined {
  if (end - start < ENVELOPE_BYTES) return undefined
  if (sealed[start] !== MAGIC || sealed[start + 2] !== VERSION || sealed[start + 3] !== 0) return undefined
  const at = sealed[start + 1] ?? KINDS.length
  const kind = KINDS[at]
  const payload = sealed.subarray(start + ENVELOPE_BYTES, end)
  if (kind === undefined || sealed.readUInt32BE(start + 4) !== payload.length) return undefined
  if (sealed.readUInt32BE(start + 8) !== checksum(wireKey, at, payload)) return undefined
  if (kind === 'value') return { kind, bytes: payload }
  return payload.length === 0 ? { kind } : undefined
}

function checksum(wireKey: string, kind: number, payload: Buffer): number {
  return crc32(payload, crc32(wireKey, kind))
}
