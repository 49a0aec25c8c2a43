import { timingSafeEqual } from 'node:crypto'
import { problem } from '#kernel/errors.ts'
import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '../context.ts'
import type { AccountRole } from './accounts.table.ts'
import { readSession } from './session.cache.ts'
import { parseSessionToken } from './session-token.ts'

/** Who asks: an account, by one of its sessions. */
export interface Viewer {
  readonly accountId: Id
  readonly sessionId: Id
  readonly role: AccountRole
}

/** A viewer, and when its session was last seen in use (Unix milliseconds). */
export interface Authenticated {
  readonly viewer: Viewer
  readonly lastSeenMs: number
}

/**
 * Finds out who holds a token. A revoked session ends at once, or, where its revocation does not reach the cache,
 * when the cache has forgotten it.
 *
 * @throws ProblemError unauthorized, the same whatever is wrong with the token
 */
export async function authenticate(
  context: Pick<Context, 'router' | 'cache' | 'clock'>,
  token: string,
): Promise<Authenticated> {
  const claim = parseSessionToken(token)
  if (claim === undefined) throw badToken()
  const { accountId, sessionId, secretHash } = claim
  const session = await readSession(context, accountId, sessionId)
  if (session === undefined || !timingSafeEqual(session.secretHash, secretHash)) throw badToken()
  if (session.expiresMs <= context.clock.nowMs()) throw badToken()
  return { viewer: { accountId, sessionId, role: session.role }, lastSeenMs: session.lastSeenMs }
}

function badToken(): Error {
  return problem('unauthorized', 'The token is not valid, or not any more. Sign in again.')
}
