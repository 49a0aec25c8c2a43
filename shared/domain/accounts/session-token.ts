import { hash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { MAX_ID, type Id } from '#kernel/snowflake.ts'

/**
 * A session token, opaque to clients:
 *
 *   mg1_ base64url( account id (8 bytes) | session id (8) | secret (24) | CRC-32 of all before (4) )
 *
 * It routes itself by the account id. The checksum refuses a mistyped token without a query, and lets a scanner of
 * leaked secrets tell a real one. Only the SHA-256 of the secret is stored: 192 random bits need no slow hash.
 */
const PREFIX = 'mg1_'
const SECRET_BYTES = 24
const BODY_BYTES = 16 + SECRET_BYTES
const TOKEN_BYTES = BODY_BYTES + 4
const TOKEN_CHARACTERS = PREFIX.length + Math.ceil((TOKEN_BYTES * 8) / 6)

/** What a token says, and what its session's row must say. */
export interface SessionClaim {
  readonly accountId: Id
  readonly sessionId: Id
  /** SHA-256 of the secret, 32 bytes. */
  readonly secretHash: Buffer
}

/** Makes a token with a fresh secret, and the hash to store. */
export function mintSessionToken(accountId: Id, sessionId: Id): { token: string; secretHash: Buffer } {
  const bytes = Buffer.alloc(TOKEN_BYTES)
  bytes.writeBigUInt64BE(accountId, 0)
  bytes.writeBigUInt64BE(sessionId, 8)
  randomBytes(SECRET_BYTES).copy(bytes, 16)
  bytes.writeUInt32BE(crc32(bytes.subarray(0, BODY_BYTES)), BODY_BYTES)
  return { token: PREFIX + bytes.toString('base64url'), secretHash: hashSecret(bytes) }
}

/** Reads a token; undefined for anything that `mintSessionToken` cannot have made. */
export function parseSessionToken(token: string): SessionClaim | undefined {
  if (token.length !== TOKEN_CHARACTERS || !token.startsWith(PREFIX)) return undefined
  const text = token.slice(PREFIX.length)
  const bytes = Buffer.from(text, 'base64url')
  // Decoding skips foreign characters and spare bits: only the canonical text is the token.
  if (bytes.length !== TOKEN_BYTES || bytes.toString('base64url') !== text) return undefined
  if (crc32(bytes.subarray(0, BODY_BYTES)) !== bytes.readUInt32BE(BODY_BYTES)) return undefined
  const accountId = bytes.readBigUInt64BE(0)
  const sessionId = bytes.readBigUInt64BE(8)
  if (accountId > MAX_ID || sessionId > MAX_ID) return undefined
  return { accountId: accountId as Id, sessionId: sessionId as Id, secretHash: hashSecret(bytes) }
}

function hashSecret(bytes: Buffer): Buffer {
  return hash('sha256', bytes.subarray(16, BODY_BYTES), 'buffer')
}
