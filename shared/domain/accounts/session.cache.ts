import type { Id } from '#kernel/snowflake.ts'
import { cachedForm, readForm, tagged, TAG_BYTES } from '../cached-form.ts'
import type { Context } from '../context.ts'
import { sessionKey } from './accounts.keys.ts'
import type { AccountRole } from './accounts.table.ts'
import { readStanding } from './sessions.queries.ts'

/** What the check of a token needs to know of its session; the account is active. */
export interface KnownSession {
  /** SHA-256 of the secret, 32 bytes. */
  readonly secretHash: Buffer
  readonly expiresMs: number
  readonly lastSeenMs: number
  readonly role: AccountRole
}

/** A revoked session ends within 5 s also where its delete does not reach the cache; a second is for the fetching. */
const SESSION_LIFE_MS = 4_000

/* tag (4) | expires, ms (8) | last seen, ms (8) | role (1) | secret hash (32) */
const FORM = cachedForm('session 1', SESSION_LIFE_MS)
const EXPIRES_AT = TAG_BYTES
const SEEN_AT = EXPIRES_AT + 8
const ROLE_AT = SEEN_AT + 8
const HASH_AT = ROLE_AT + 1
const ROLES: readonly AccountRole[] = ['member', 'moderator']

/** A session of an active account; undefined when it is revoked or its account is gone. */
export async function readSession(
  context: Pick<Context, 'router' | 'cache'>,
  accountId: Id,
  sessionId: Id,
): Promise<KnownSession | undefined> {
  const value = await readForm(context, FORM, sessionKey(accountId, sessionId), async (router) => {
    const standing = await readStanding(router, accountId, sessionId)
    if (standing?.status !== 'active') return null
    const packed = Buffer.alloc(HASH_AT - TAG_BYTES)
    packed.writeDoubleBE(standing.expires_at.getTime(), 0)
    packed.writeDoubleBE(standing.last_seen_at.getTime(), SEEN_AT - TAG_BYTES)
    packed[ROLE_AT - TAG_BYTES] = ROLES.indexOf(standing.role)
    return tagged(FORM, packed, standing.secret_hash)
  })
  return (
    value && {
      expiresMs: value.readDoubleBE(EXPIRES_AT),
      lastSeenMs: value.readDoubleBE(SEEN_AT),
      role: ROLES[value[ROLE_AT] ?? 0] ?? 'member',
      secretHash: value.subarray(HASH_AT),
    }
  )
}
