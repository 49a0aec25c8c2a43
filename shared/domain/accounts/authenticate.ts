import { timingSafeEqual } from 'node:crypto'
import { problem } from '#kernel/errors.ts'
import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '../context.ts'
import type { AccountRole } from './accounts.table.ts'
import { parseSessionToken } from './session-token.ts'
import { readStanding } from './sessions.queries.ts'

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
 * Finds out who holds a token, on the primary and past any cache: a revoked session ends with its row.
 *
 * @throws ProblemError unauthorized, the same whatever is wrong with the token
 */
export async function authenticate(context: Pick<Context, 'router' | 'clock'>, token: string): Promise<Authenticated> {
  const claim = parseSessionToken(token)
  if (claim === undefined) throw badToken()
  const { accountId, sessionId, secretHash } = claim
  const standing = await readStanding(context.router, accountId, sessionId)
  if (standing === undefined || !timingSafeEqual(standing.secret_hash, secretHash)) throw badToken()
  if (standing.expires_at.getTime() <= context.clock.nowMs() || standing.status !== 'active') throw badToken()
  return { viewer: { accountId, sessionId, role: standing.role }, lastSeenMs: standing.last_seen_at.getTime() }
}

function badToken(): Error {
  return problem('unauthorized', 'The token is not valid, or not any more. Sign in again.')
}
