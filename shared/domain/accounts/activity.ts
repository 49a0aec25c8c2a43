import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '../context.ts'
import { RETURN_AFTER_MS } from '../feed/dormancy.ts'
import type { Authenticated } from './authenticate.ts'
import { touchSession } from './sessions.queries.ts'

/** A session's last use is known to this precision. */
export const TOUCH_AFTER_MS = 5 * 60_000
/** Beyond it a touch is skipped; the session's next request makes it. */
const TOUCHES_AT_ONCE_MAX = 4

/** Keeps `last_seen_at` of sessions and accounts, beside the requests and, but for a return, never in their way. */
export interface Activity {
  /**
   * Notes a use; writes only when the last one written is old enough, and the writer not busy. Settles at once, but for
   * a session that comes back after weeks: then when its account is awake and its feed may be read.
   *
   * @throws only in that case: what the write throws
   */
  note(seen: Authenticated): Promise<void>
  /** Settles when no write is under way. */
  settled(): Promise<void>
}

export function createActivity(context: Pick<Context, 'router' | 'invalidations' | 'clock' | 'log'>): Activity {
  const { clock, log } = context
  const writing = new Map<Id, Promise<void>>()
  return {
    async note({ viewer: { accountId, sessionId }, lastSeenMs }) {
      const nowMs = clock.nowMs()
      if (nowMs - lastSeenMs >= RETURN_AFTER_MS) return touchSession(context, accountId, sessionId, nowMs)
      if (nowMs - lastSeenMs < TOUCH_AFTER_MS) return
      if (writing.size >= TOUCHES_AT_ONCE_MAX || writing.has(sessionId)) return
      const write = touchSession(context, accountId, sessionId, nowMs)
        .catch((error: unknown) => log.warn({ err: error }, 'could not note that a session is in use'))
        .finally(() => writing.delete(sessionId))
      writing.set(sessionId, write)
    },
    async settled() {
      await Promise.all(writing.values())
    },
  }
}
