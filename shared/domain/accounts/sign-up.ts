import { problem } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { isUniqueViolation } from '#platform/postgres/database-errors.ts'
import type { Context } from '../context.ts'
import { retentionFloor } from '../feed/feed.rules.ts'
import { chooseShard } from '../shards/choose-shard.ts'
import { writeThrough } from '../write-through.ts'
import { keysOfSignUp, sessionKey } from './accounts.keys.ts'
import { findAccount, type AccountRow } from './accounts.queries.ts'
import type { NewAccount } from './accounts.rules.ts'
import type { Passwords } from './passwords.ts'
import { settleReservation, type Settlement } from './reservations.ts'
import { claimName, isNameHeld, reserveName, type Reservation } from './reservations.queries.ts'
import { insertSession, type NewSession } from './sessions.queries.ts'

export type SignUpContext = Pick<Context, 'router' | 'invalidations' | 'ids' | 'clock' | 'log'> & {
  readonly passwords: Passwords
}

/** An account and the token of the session just made. */
export interface SignedIn {
  readonly account: AccountRow
  readonly token: string
}

const TAKEN = {
  username: { code: 'username_taken', detail: 'Another account has this username.' },
  email: { code: 'email_taken', detail: 'Another account has this email address.' },
} as const

/** An account to be made, with its id. */
export interface AccountToMake {
  readonly accountId: Id
  readonly input: NewAccount
  readonly userAgent: string
}

/**
 * Makes an account and its first session. Names and account may lie on three nodes, so the names are reserved
 * first, for an id minted beforehand; then account, password and session are made in one transaction; then the
 * names are claimed. A crash in between leaves reservations, which the sweep settles.
 *
 * @throws ProblemError username_taken, email_taken, unavailable
 */
export async function signUp(context: SignUpContext, input: NewAccount, userAgent: string): Promise<SignedIn> {
  const accountId = await context.ids.mint(chooseShard(context.router))
  const reserved: Reservation[] = []
  return makeAccount(context, { accountId, input, userAgent }, reserved).catch(async (error: unknown) => {
    await settleAll(context, reserved)
    throw error
  })
}

/**
 * Does what `signUp` does, but for leaving the reservations of a failure to the caller: until they are settled,
 * another try with the same id may go on where this one ended.
 *
 * @param reserved gets the names that this try has reserved
 * @throws ProblemError username_taken, email_taken, unavailable
 */
export async function makeAccount(
  context: SignUpContext,
  { accountId, input, userAgent }: AccountToMake,
  reserved: Reservation[] = [],
): Promise<SignedIn> {
  const { router, ids, clock } = context
  const names = namesOf(input, accountId)
  // Before the costly hash; the reservation below is what decides.
  if (await isNameHeld(router, names[0])) throw taken('username')
  const passwordHash = await context.passwords.hash(input.password)
  for (const name of names) {
    if (!(await reserveName(router, name))) throw taken(name.kind)
    reserved.push(name)
  }

  const session = { accountId, sessionId: await ids.mint(shardOf(accountId)), userAgent, nowMs: clock.nowMs() }
  const token = await createAccount(context, { input, passwordHash, session }).catch((error: unknown) => {
    // Its id is void, as the sweep took this sign-up for dead; or another try with the same id was faster.
    const again = { cause: error, retryAfterSeconds: 1 }
    throw isUniqueViolation(error) ? problem('unavailable', 'Signing up took too long. Try again.', again) : error
  })
  await claimAll(context, names)
  const account = await findAccount(router, accountId)
  if (account === undefined) {
    throw problem('unavailable', 'The new account cannot be read yet. Sign in.', { retryAfterSeconds: 1 })
  }
  return { account, token }
}

/** What an account must reserve: its username first. */
export function namesOf(input: NewAccount, accountId: Id): [Reservation, ...Reservation[]] {
  const username: Reservation = { kind: 'username', name: input.username, accountId }
  return input.email === null ? [username] : [username, { kind: 'email', name: input.email, accountId }]
}

async function createAccount(
  context: SignUpContext,
  made: { readonly input: NewAccount; readonly passwordHash: string; readonly session: NewSession },
): Promise<string> {
  const { input, passwordHash, session } = made
  const id: Id = session.accountId
  return writeThrough(context, shardOf(id), async (trx, stale) => {
    stale([...keysOfSignUp(id, input.username), sessionKey(id, session.sessionId)])
    await trx
      .insertInto('accounts')
      .values({
        id,
        status: 'active',
        username: input.username,
        display_name: input.displayName,
        email: input.email,
        feed_floor: retentionFloor(session.nowMs),
      })
      .execute()
    await trx.insertInto('credentials').values({ account_id: id, password_hash: passwordHash }).execute()
    return insertSession(trx, session)
  })
}

/** Claims what was reserved. The account is made, so a failure here is the sweep's to mend, not the client's. */
async function claimAll({ router, log }: SignUpContext, names: readonly Reservation[]): Promise<void> {
  const claims = await Promise.allSettled(names.map((name) => claimName(router, name)))
  for (const claim of claims) {
    if (claim.status === 'rejected') log.warn({ err: claim.reason as unknown }, 'a name is left for the sweep to claim')
  }
}

/**
 * After a failure whose outcome may be unknown, such as a lost COMMIT reply: lets the account's row decide, which is
 * void from now on unless the account was made.
 *
 * @returns claimed: the account was made; freed: it never will be; unknown: something is left for the sweep
 */
export async function settleAll(
  { router, log }: Pick<SignUpContext, 'router' | 'log'>,
  names: readonly Reservation[],
): Promise<Settlement | 'unknown'> {
  const settlements = await Promise.allSettled(names.map((name) => settleReservation(router, name)))
  let outcome: Settlement | 'unknown' = 'freed'
  for (const settlement of settlements) {
    if (settlement.status === 'rejected') {
      log.warn({ err: settlement.reason as unknown }, 'a reservation is left for the sweep to settle')
      outcome = 'unknown'
    } else if (outcome === 'freed') {
      outcome = settlement.value
    }
  }
  return outcome
}

function taken(kind: Reservation['kind']): Error {
  const { code, detail } = TAKEN[kind]
  return problem(code, detail, { errors: [{ path: `/body/${kind}`, code: 'taken', message: 'is taken' }] })
}
