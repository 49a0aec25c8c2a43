import { problem } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { keysOfOwnWrite } from '../consistency/marker.ts'
import type { AppRouter } from '../database.ts'
import { noteSeen } from '../feed/dormancy.ts'
import { writeThrough } from '../write-through.ts'
import { sessionKey } from './accounts.keys.ts'
import { findAccount, findUsernameHolder, type AccountRow } from './accounts.queries.ts'
import { normaliseUsername } from './accounts.rules.ts'
import { insertSession, trimSessions } from './sessions.queries.ts'
import type { SignedIn, SignUpContext } from './sign-up.ts'

/** Asked for when no account has the name, so that both cases make the same queries. */
const NOBODY = 0n as Id
const NO_USERNAME = ''

/**
 * Signs in: a new session for whoever knows the password. Takes as long for a name that nobody has.
 *
 * @throws ProblemError unauthorized, the same for an unknown name and a wrong password; unavailable
 */
export async function signIn(
  context: SignUpContext,
  credentials: { readonly username: string; readonly password: string },
  userAgent: string,
): Promise<SignedIn> {
  const { router } = context
  const username = normaliseUsername(credentials.username) ?? NO_USERNAME
  const holder = (await findUsernameHolder(router, username)) ?? NOBODY
  const [account, right] = await Promise.all([
    findAccount(router, holder),
    isPasswordOf(context, holder, credentials.password),
  ])
  if (!right || account?.username !== username) throw problem('unauthorized', 'The username or the password is wrong.')
  return openSession(context, account, userAgent)
}

/**
 * Whether that is an account's password; for an id without an account it is not, and that takes as long to find out.
 *
 * @throws ProblemError unavailable
 */
export async function isPasswordOf(context: SignUpContext, accountId: Id, password: string): Promise<boolean> {
  return context.passwords.verify(await readPasswordHash(context.router, accountId), password)
}

/** Makes a session for whoever has proved to be the account's owner; its oldest one goes if there are too many. */
export async function openSession(context: SignUpContext, account: AccountRow, userAgent: string): Promise<SignedIn> {
  const { ids, clock } = context
  const shard = shardOf(account.id)
  const session = { accountId: account.id, sessionId: await ids.mint(shard), userAgent, nowMs: clock.nowMs() }
  const token = await writeThrough(context, shard, async (trx, stale) => {
    stale([sessionKey(session.accountId, session.sessionId), ...keysOfOwnWrite(session.accountId)])
    const made = await insertSession(trx, session)
    await noteSeen(trx, stale, session.accountId, session.nowMs)
    await trimSessions(trx, stale, session.accountId, session.nowMs)
    return made
  })
  return { account, token }
}

async function readPasswordHash(router: AppRouter, accountId: Id): Promise<string | undefined> {
  const row = await router.read(shardOf(accountId), (db) =>
    db.selectFrom('credentials').select('password_hash').where('account_id', '=', accountId).executeTakeFirst(),
  )
  return row?.password_hash
}
