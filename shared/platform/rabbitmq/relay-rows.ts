import { sql, type QueryExecutorProvider } from 'kysely'
import type { ClaimKey } from '../outbox/claims.ts'
import type { WrittenRow } from '../outbox/handoff.ts'

/** A row of the outbox that this process may publish for as long as the token is the row's. */
export interface RelayRow extends WrittenRow, ClaimKey {
  readonly attempts: number
  readonly cause: string | null
  readonly detail: string | null
}

/**
 * Claims up to `limit` due rows in one statement that is its own transaction; rows that another process is claiming
 * are skipped. Queues come in the order given, within a queue those due longest first. A claim is no attempt. Each
 * row comes due by itself `visibilityMs` later unless it is deleted before.
 */
export async function claimForRelay(
  db: QueryExecutorProvider,
  request: { queues: readonly string[]; limit: number; visibilityMs: number; token: string },
): Promise<RelayRow[]> {
  const { queues, limit, visibilityMs, token } = request
  const { rows } = await sql<RelayRow>`
    update outbox set claim_token = ${token}::uuid,
      available_at = now() + ${visibilityMs}::float8 * interval '1 millisecond'
    where id = any(array(
      select due.id from unnest(${queues}::text[]) as wanted (queue)
      cross join lateral (
        select id from outbox where queue = wanted.queue and available_at <= now()
        order by available_at limit ${limit} for update skip locked) as due
      limit ${limit}))
    returning id, ${token} as token, message_id as "messageId", queue, event, body::text, request_id as "requestId",
      enqueued_at as "enqueuedAt", attempts, cause, detail`.execute(db)
  return rows
}

/** Lets rows come due again, for whoever claims them then; those that others have taken meanwhile are left to them. */
export async function releaseToRelay(
  db: QueryExecutorProvider,
  claims: readonly ClaimKey[],
  delayMs: number,
): Promise<void> {
  await sql`
    update outbox set claim_token = null, available_at = now() + ${delayMs}::float8 * interval '1 millisecond'
    from unnest(${claims.map((claim) => claim.id)}::bigint[], ${claims.map((claim) => claim.token)}::uuid[])
      as claim (id, token)
    where outbox.id = claim.id and claim_token = claim.token`.execute(db)
}
