import { sql, type Selectable } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { compileStatement } from '#platform/postgres/compiled-statement.ts'
import { gatheredRead, int8Array } from '#platform/postgres/gathered-read.ts'
import { keysOfOwnWrite } from '../consistency/marker.ts'
import type { AppRouter, Database, Trx } from '../database.ts'
import { noteSeen } from '../feed/dormancy.ts'
import { writeThrough, type MarkStale, type WriteContext } from '../write-through.ts'
import { sessionKey } from './accounts.keys.ts'
import type { AccountRole, AccountStatus, SessionsTable } from './accounts.table.ts'
import { mintSessionToken } from './session-token.ts'

/** A session ends so long after its sign-in, however much it is used. */
export const SESSION_LIFE_MS = 180 * 24 * 60 * 60 * 1_000
/** An account that signs in more often loses its oldest sessions. */
export const SESSIONS_MAX = 100
const USER_AGENT_CHARACTERS_MAX = 255

export type SessionRow = Selectable<SessionsTable>

/** A session's secret and what its account may do, for the check of a token. */
export interface SessionStanding {
  readonly secret_hash: Buffer
  readonly expires_at: Date
  readonly last_seen_at: Date
  readonly status: AccountStatus
  readonly role: AccountRole
}

/** Who signs in, from where, and when (Unix milliseconds). */
export interface NewSession {
  readonly accountId: Id
  readonly sessionId: Id
  readonly userAgent: string
  readonly nowMs: number
}

/**
 * Makes a session in the caller's transaction, on the account's shard.
 *
 * @returns the token: the only copy of its secret
 */
export async function insertSession(trx: Trx, session: NewSession): Promise<string> {
  const { token, secretHash } = mintSessionToken(session.accountId, session.sessionId)
  const now = new Date(session.nowMs)
  await trx
    .insertInto('sessions')
    .values({
      account_id: session.accountId,
      id: session.sessionId,
      secret_hash: secretHash,
      user_agent: session.userAgent.replaceAll('\0', '').slice(0, USER_AGENT_CHARACTERS_MAX),
      created_at: now,
      last_seen_at: now,
      expires_at: new Date(session.nowMs + SESSION_LIFE_MS),
    })
    .execute()
  return token
}

/** Removes an account's expired sessions, and its oldest above the limit. */
export async function trimSessions(trx: Trx, stale: MarkStale, accountId: Id, nowMs: number): Promise<void> {
  const { rows } = await sql<{ id: Id }>`delete from sessions where account_id = ${accountId} and (expires_at <= ${new Date(nowMs)} or id in (
    select id from sessions where account_id = ${accountId} order by id desc offset ${SESSIONS_MAX})) returning id`.execute(trx)
  stale(rows.map(({ id }) => sessionKey(accountId, id)))
}

interface SessionClaim {
  readonly accountId: Id
  readonly sessionId: Id
}

const standings = gatheredRead<Database, SessionClaim, SessionStanding & Pick<SessionRow, 'id' | 'account_id'>>({
  statement: compileStatement((db) =>
    db
      .selectFrom(
        sql<{ account_id: Id; id: Id }>`unnest(${'{}'}::bigint[], ${'{}'}::bigint[])`.as<'asked'>(
          sql`asked (account_id, id)`,
        ),
      )
      .innerJoin('sessions as s', (on) =>
        on.onRef('s.account_id', '=', 'asked.account_id').onRef('s.id', '=', 'asked.id'),
      )
      .innerJoin('accounts as a', 'a.id', 's.account_id')
      .select(['s.account_id', 's.id', 's.secret_hash', 's.expires_at', 's.last_seen_at', 'a.status', 'a.role']),
  ),
  parametersOf: (claims) => [
    int8Array(claims.map((claim) => claim.accountId)),
    int8Array(claims.map((claim) => claim.sessionId)),
  ],
  idOfKey: (claim) => claim.sessionId,
  idOfRow: (row) => row.id,
})

/**
 * What a token's session and account are at this moment; undefined for a session that is revoked. With all that is
 * asked in the same tick it is one statement per node.
 */
export async function readStanding(
  router: AppRouter,
  accountId: Id,
  sessionId: Id,
): Promise<SessionStanding | undefined> {
  const standing = await router.read(shardOf(accountId), (db) => standings.one(db, { accountId, sessionId }))
  // In the same tick somebody else may have claimed this session for an account of theirs.
  return standing?.account_id === accountId ? standing : undefined
}

/** An account's live sessions, newest first, made before `before` (null: from the newest). */
export async function listSessions(
  router: AppRouter,
  accountId: Id,
  page: { readonly before: Id | null; readonly limit: number; readonly nowMs: number },
): Promise<SessionRow[]> {
  return router.read(shardOf(accountId), (db) => {
    let query = db
      .selectFrom('sessions')
      .selectAll()
      .where('account_id', '=', accountId)
      .where('expires_at', '>', new Date(page.nowMs))
    if (page.before !== null) query = query.where('id', '<', page.before)
    return query.orderBy('id', 'desc').limit(page.limit).execute()
  })
}

/** Revokes a session; false when the account has none of that id. */
export async function deleteSession(context: WriteContext, accountId: Id, sessionId: Id): Promise<boolean> {
  const { numDeletedRows } = await writeThrough(context, shardOf(accountId), (trx, stale) => {
    stale([sessionKey(accountId, sessionId)])
    return trx.deleteFrom('sessions').where('account_id', '=', accountId).where('id', '=', sessionId).executeTakeFirst()
  })
  return numDeletedRows > 0n
}

/**
 * Records that a session and its account were in use at `nowMs`; never turns the time back. The account is awake then,
 * if it was dormant.
 */
export async function touchSession(
  context: WriteContext,
  accountId: Id,
  sessionId: Id,
  nowMs: number,
): Promise<void> {
  const now = new Date(nowMs)
  await writeThrough(context, shardOf(accountId), async (trx, stale) => {
    stale([sessionKey(accountId, sessionId), ...keysOfOwnWrite(accountId)])
    await trx
      .updateTable('sessions')
      .set({ last_seen_at: now })
      .where('account_id', '=', accountId)
      .where('id', '=', sessionId)
      .where('last_seen_at', '<', now)
      .execute()
    await noteSeen(trx, stale, accountId, nowMs)
  })
}
