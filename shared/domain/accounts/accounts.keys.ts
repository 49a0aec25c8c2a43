import type { Id } from '#kernel/snowflake.ts'

/** An account's summary as it stands beside what it made. */
export function summaryKey(accountId: Id): string {
  return `summary:${accountId}`
}

/** An account's profile with its counts. */
export function profileKey(accountId: Id): string {
  return `profile:${accountId}`
}

/** Whom a username leads to. */
export function usernameKey(username: string): string {
  return `username:${username}`
}

/** A session, as far as the check of its token needs it. */
export function sessionKey(accountId: Id, sessionId: Id): string {
  return `session:${accountId}:${sessionId}`
}

/** Keys made stale by a change of an account's own facts. */
export function keysOfProfileChange(accountId: Id): string[] {
  return [summaryKey(accountId), profileKey(accountId)]
}

/** Keys made stale by an account's making: somebody may have asked for its id or its name before. */
export function keysOfSignUp(accountId: Id, username: string): string[] {
  return [...keysOfProfileChange(accountId), usernameKey(username)]
}
