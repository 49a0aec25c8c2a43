import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Id } from '#kernel/snowflake.ts'
import type { Reach } from '#platform/postgres/reader.ts'
import { packPosition, POSITION_BYTES, unpackPosition } from '#platform/postgres/wal-position.ts'
import { extendReach } from './marker.ts'

/*
 * How far replicas must be for an account, in a client's hands:
 *
 *   layout (1) | made at, Unix seconds (4) | positions (20 each) | HMAC of all that and the account's id (16)
 *
 * as base64url. The HMAC keeps a client from opening replicas that are further behind, and from mixing up accounts.
 */
const LAYOUT = 1
const HEAD_BYTES = 5
const MAC_BYTES = 16
/** Nodes beyond are read on their primaries. */
const POSITIONS_MAX = 16
const TOKEN_CHARACTERS_MAX = 512
/** An account may write by other clients too, of which this token knows nothing: it has to be a recent one. */
const LIFE_MS = 300_000

/** What a token says, and when the oldest of it was read (Unix milliseconds, of whole seconds). */
export interface TokenContents {
  readonly reach: Reach
  readonly madeMs: number
}

/** The token that says so to whoever brings it for that account. */
export function sealToken(secretKey: string, accountId: Id, { reach, madeMs }: TokenContents): string {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt8(LAYOUT)
  head.writeUInt32BE(Math.floor(madeMs / 1_000), 1)
  const positions = [...reach].slice(0, POSITIONS_MAX).map(([history, lsn]) => packPosition({ history, lsn }))
  const payload = Buffer.concat([head, ...positions])
  return Buffer.concat([payload, macOf(secretKey, accountId, payload)]).toString('base64url')
}

/**
 * What a token says; undefined for one that is malformed, too old, or not made for that account with this key. It is a
 * hint and no more: without it the primary is read, so none of this is an error.
 */
export function openToken(secretKey: string, accountId: Id, token: string, nowMs: number): TokenContents | undefined {
  if (token.length > TOKEN_CHARACTERS_MAX) return undefined
  const bytes = Buffer.from(token, 'base64url')
  const end = bytes.length - MAC_BYTES
  if (end < HEAD_BYTES || (end - HEAD_BYTES) % POSITION_BYTES !== 0 || bytes[0] !== LAYOUT) return undefined
  if (!timingSafeEqual(bytes.subarray(end), macOf(secretKey, accountId, bytes.subarray(0, end)))) return undefined
  const madeMs = bytes.readUInt32BE(1) * 1_000
  // Either way: the clocks of two processes differ.
  if (Math.abs(nowMs - madeMs) > LIFE_MS) return undefined
  const reach = new Map<string, bigint>()
  for (let at = HEAD_BYTES; at < end; at += POSITION_BYTES) {
    const position = unpackPosition(bytes, at)
    if (position !== null) extendReach(reach, position)
  }
  return { reach, madeMs }
}

function macOf(secretKey: string, accountId: Id, payload: Buffer): Buffer {
  const mac = createHmac('sha256', secretKey).update(`consistency-token ${accountId} `).update(payload).digest()
  return mac.subarray(0, MAC_BYTES)
}
