import { problem, ProblemError, type ErrorCode, type FieldError } from '#kernel/errors.ts'
import type { Id } from '#kernel/snowflake.ts'
import type { Context } from '../context.ts'
import {
  finishAnonymousKey,
  releaseAnonymousKey,
  startAnonymousKey,
  type AnonymousKeyState,
} from '../idempotency/anonymous-key.queries.ts'
import { fingerprint, type KeptAnswer } from '../idempotency/idempotency.queries.ts'
import { chooseShard } from '../shards/choose-shard.ts'
import { findAccount } from './accounts.queries.ts'
import type { NewAccount } from './accounts.rules.ts'
import { isPasswordOf, openSession } from './sign-in.ts'
import { makeAccount, namesOf, settleAll, type SignedIn, type SignUpContext } from './sign-up.ts'

const CREATED_STATUS = 201
const KEPT_STATUSES = new Set([409, 422])

export interface KeyedSignUp {
  /** The Idempotency-Key. */
  readonly key: string
  readonly input: NewAccount
  readonly userAgent: string
}

type Started = AnonymousKeyState & { readonly kind: 'started' }

/**
 * Signs up like `signUp`, but once for each key: the same request sent again gives the same account with a new token,
 * also when the process died at the first one. The key and the account lie on different shards, so no transaction
 * holds both; instead every try of a key works with the same account id. The row of that id, an account or void, says
 * what came of it, and an answer is only kept or a key given back when that row can no longer change.
 *
 * @throws ProblemError username_taken, email_taken, unavailable; idempotency_in_progress, idempotency_mismatch;
 *   unauthorized when the account has another password by now, or is gone
 */
export async function signUpOnce(
  context: SignUpContext & Pick<Context, 'config'>,
  request: KeyedSignUp,
): Promise<SignedIn> {
  const { username, password, displayName, email } = request.input
  const print = fingerprint(context.config.secretKey, ['POST /v1/accounts', username, password, displayName, email ?? ''])
  const state = await startAnonymousKey(context.router, { key: request.key, request: print }, () =>
    context.ids.mint(chooseShard(context.router)),
  )
  switch (state.kind) {
    case 'mismatch':
      throw problem('idempotency_mismatch', 'This Idempotency-Key came with another request before.')
    case 'running':
      throw problem('idempotency_in_progress', 'The first request with this Idempotency-Key is still running.', {
        retryAfterSeconds: state.retryAfterSeconds,
      })
    case 'done':
      return replay(context, request, state)
    case 'started':
      return run(context, request, state)
  }
}

async function run(context: SignUpContext, request: KeyedSignUp, state: Started): Promise<SignedIn> {
  const { key, input, userAgent } = request
  const { resourceId: accountId } = state
  const finish = (): Promise<void> =>
    finishAnonymousKey(context.router, { key, resourceId: accountId }, { status: CREATED_STATUS, body: {} }).catch(
      (error: unknown) => context.log.warn({ err: error }, 'the next request with this key will find the account by its id'),
    )
  if (state.isTakenOver && (await findAccount(context.router, accountId)) !== undefined) {
    await finish()
    return enter(context, request, accountId)
  }
  const signedIn = await makeAccount(context, { accountId, input, userAgent }).catch(async (error: unknown) => {
    throw await fail(context, request, state, error)
  })
  await finish()
  return signedIn
}

/** Ends a try that failed. @returns what to tell the client */
async function fail({ router, log }: SignUpContext, request: KeyedSignUp, state: Started, error: unknown): Promise<unknown> {
  const { key, input } = request
  const { resourceId } = state
  try {
    // All names, for another try may have reserved what this one did not; and the id, lest it goes on to make the account.
    const settlement = await settleAll({ router, log }, namesOf(input, resourceId))
    if (settlement === 'claimed') {
      const again = { cause: error, retryAfterSeconds: 1 }
      return problem('unavailable', 'The account is made, but cannot be entered yet. Try again.', again)
    }
    // With a name left behind, a retry must come with the same id, for which that name is no other's: so the key stays.
    if (settlement === 'unknown') return error
    if (error instanceof ProblemError && KEPT_STATUSES.has(error.status)) {
      const body: KeptProblem = { code: error.code, detail: error.detail, errors: error.errors }
      await finishAnonymousKey(router, { key, resourceId }, { status: error.status, body })
    } else {
      await releaseAnonymousKey(router, key, state.hold)
    }
  } catch (lost) {
    log.warn({ err: lost }, 'the key of a sign-up that failed stays locked until its hold runs out')
  }
  return error
}

interface KeptProblem {
  readonly code: ErrorCode
  readonly detail: string
  readonly errors: readonly FieldError[] | undefined
}

async function replay(
  context: SignUpContext,
  request: KeyedSignUp,
  { resourceId, answer }: { readonly resourceId: Id; readonly answer: KeptAnswer },
): Promise<SignedIn> {
  if (answer.status === CREATED_STATUS) return enter(context, request, resourceId)
  const { code, detail, errors } = answer.body as KeptProblem
  throw problem(code, detail, { ...(errors !== undefined && { errors }) })
}

/** A new session of the account; the request is the same, but the password may have been changed since. */
async function enter(context: SignUpContext, { input, userAgent }: KeyedSignUp, accountId: Id): Promise<SignedIn> {
  const account = await findAccount(context.router, accountId)
  if (account === undefined || !(await isPasswordOf(context, account.id, input.password))) {
    throw problem('unauthorized', 'The account was made, but has another password now, or is gone.')
  }
  return openSession(context, account, userAgent)
}
