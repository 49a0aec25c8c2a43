import { sql, type QueryExecutorProvider } from 'kysely'
import type { Delivery, Failure } from './transport.ts'

/** A row that this process may settle for as long as the token is the row's. */
export interface ClaimKey {
  readonly id: bigint
  readonly token: string
}

/** A claimed row. */
export interface Claim extends ClaimKey {
  readonly delivery: Delivery
}

interface ClaimedRow {
  id: bigint
  message_id: string
  event: string
  body: unknown
  request_id: string | null
  attempts: number
  cause: string | null
  detail: string | null
}

/**
 * When a claim that begins now runs out: after once to twice its time, each row at a moment of its own. A picture that
 * kills its worker takes along what the worker held beside it; were they all due again together, one worker would
 * claim them together again, time after time, until the neighbours were dead letters too.
 */
function runsOut(visibilityMs: number) {
  return sql`now() + ${visibilityMs}::float8 * (1 + random()) * interval '1 millisecond'`
}

/**
 * Claims up to `limit` due rows of a queue, those due longest first, in one statement that is its own transaction.
 * Each comes back by itself, `visibilityMs` to twice that later, unless it is settled before. The attempt counts from
 * here, so one that ends in a crash counts too. Rows that another worker is claiming are skipped, not waited for.
 */
export async function claimRows(
  db: QueryExecutorProvider,
  request: { queue: string; limit: number; visibilityMs: number; token: string },
): Promise<Claim[]> {
  const { queue, limit, visibilityMs, token } = request
  const { rows } = await sql<ClaimedRow>`
    update outbox set claim_token = ${token}::uuid, attempts = attempts + 1,
      available_at = ${runsOut(visibilityMs)}
    where id = any(array(
      select id from outbox where queue = ${queue} and available_at <= now()
      order by available_at limit ${limit} for update skip locked))
    returning id, message_id, event, body, request_id, attempts, cause, detail`.execute(db)
  return rows.map((row) => ({
    id: row.id,
    token,
    delivery: {
      messageId: row.message_id,
      event: row.event,
      body: row.body,
      requestId: row.request_id,
      attempt: row.attempts,
      lastFailure: row.cause === null ? null : { cause: row.cause, detail: row.detail ?? '' },
    },
  }))
}

/** Lets claims last for at least `visibilityMs` from now; one that another worker has taken meanwhile is left to it. */
export async function renewClaims(
  db: QueryExecutorProvider,
  claims: readonly ClaimKey[],
  visibilityMs: number,
): Promise<void> {
  await sql`
    update outbox set available_at = ${runsOut(visibilityMs)}
    from ${claimKeys(claims)} where outbox.id = claim.id and claim_token = claim.token`.execute(db)
}

/** Deletes finished rows; gives how many were still ours. */
export async function deleteClaims(db: QueryExecutorProvider, claims: readonly ClaimKey[]): Promise<number> {
  const result = await sql`
    delete from outbox using ${claimKeys(claims)} where outbox.id = claim.id and claim_token = claim.token`.execute(db)
  return Number(result.numAffectedRows ?? 0n)
}

/** A claim to give back for another attempt: after `delayMs`, with the reason, or (`failure` null) uncounted. */
export interface ReleasedClaim extends ClaimKey {
  readonly delayMs: number
  readonly failure: Failure | null
}

/** Gives rows back; gives how many were still ours. Those without a failure get their attempt back. */
export async function releaseClaims(db: QueryExecutorProvider, claims: readonly ReleasedClaim[]): Promise<number> {
  const result = await sql`
    update outbox set claim_token = null,
      available_at = now() + release.delay_ms * interval '1 millisecond',
      attempts = attempts - case when release.cause is null then 1 else 0 end,
      cause = coalesce(release.cause, outbox.cause),
      detail = case when release.cause is null then outbox.detail else release.detail end
    from unnest(${claims.map((claim) => claim.id)}::bigint[], ${claims.map((claim) => claim.token)}::uuid[],
      ${claims.map((claim) => claim.delayMs)}::float8[], ${claims.map((claim) => claim.failure?.cause ?? null)}::text[],
      ${claims.map((claim) => claim.failure?.detail ?? null)}::text[]) as release (id, token, delay_ms, cause, detail)
    where outbox.id = release.id and claim_token = release.token`.execute(db)
  return Number(result.numAffectedRows ?? 0n)
}

/** A claim that becomes a dead letter. */
export interface BuriedClaim extends ClaimKey {
  readonly failure: Failure
}

/** Moves rows to the dead letters in one statement; gives how many were still ours. */
export async function buryClaims(db: QueryExecutorProvider, claims: readonly BuriedClaim[]): Promise<number> {
  const result = await sql`
    with buried as (
      delete from outbox
      using unnest(${claims.map((claim) => claim.id)}::bigint[], ${claims.map((claim) => claim.token)}::uuid[],
        ${claims.map((claim) => claim.failure.cause)}::text[], ${claims.map((claim) => claim.failure.detail)}::text[])
        as burial (id, token, cause, detail)
      where outbox.id = burial.id and claim_token = burial.token
      returning outbox.*, burial.cause as final_cause, burial.detail as final_detail)
    insert into dead_letters (message_id, queue, event, body, request_id, enqueued_at, attempts, cause, detail)
    select message_id, queue, event, body, request_id, enqueued_at, attempts, final_cause, final_detail
    from buried on conflict do nothing`.execute(db)
  return Number(result.numAffectedRows ?? 0n)
}

/** True while the queue has a row that is due or claimed; rows that wait for a later moment do not count. */
export async function hasWork(db: QueryExecutorProvider, queue: string): Promise<boolean> {
  const { rows } = await sql<{ found: boolean }>`select exists (select from outbox
    where queue = ${queue} and (available_at <= now() or claim_token is not null)) as found`.execute(db)
  return rows[0]?.found === true
}

function claimKeys(claims: readonly ClaimKey[]) {
  const ids = claims.map((claim) => claim.id)
  const tokens = claims.map((claim) => claim.token)
  return sql`unnest(${ids}::bigint[], ${tokens}::uuid[]) as claim (id, token)`
}
