import { problem, ProblemError, type ErrorCode } from '#kernel/errors.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { fingerprint, finishKey, releaseKey, startKey } from '#domain/idempotency/idempotency.queries.ts'

/** A request that may come again. */
export interface KeyedRequest {
  readonly accountId: Id
  /** The Idempotency-Key; null without one. */
  readonly key: string | null
  /** What makes it this request: method, path, body. */
  readonly parts: readonly string[]
}

/** What is done once. */
export interface OnceWork<T> {
  run(): Promise<T>
  /** Before a kept answer is given again: the try that had the effect may have died before anybody was told of it. */
  retell(answer: T): Promise<void>
}

const OK_STATUS = 200
const KEPT_STATUSES = new Set([409, 422])

/**
 * Answers a request whose effect happens once by itself: the same key and request get the same answer, and a retry after
 * a crash in between runs the work again, which finds the effect there.
 *
 * @throws what the work throws, and ProblemError idempotency_in_progress, idempotency_mismatch
 */
export async function answerOnce<T extends object>(
  { router, ids, log, config }: Pick<Context, 'router' | 'ids' | 'log' | 'config'>,
  request: KeyedRequest,
  work: OnceWork<T>,
): Promise<T> {
  const { accountId, key, parts } = request
  if (key === null) return work.run()
  const shard = shardOf(accountId)
  const print = fingerprint(config.secretKey, parts)
  const state = await startKey(router, { accountId, key }, () => ids.mint(shard))
  if (state.kind === 'running') {
    throw problem('idempotency_in_progress', 'The first request with this Idempotency-Key is still running.', {
      retryAfterSeconds: state.retryAfterSeconds,
    })
  }
  if (state.kind === 'done') {
    if (state.fingerprint !== print) {
      throw problem('idempotency_mismatch', 'This Idempotency-Key came with another request before.')
    }
    if (state.answer.status === OK_STATUS) {
      await work.retell(state.answer.body as T)
      return state.answer.body as T
    }
    const { code, detail } = state.answer.body as { code: ErrorCode; detail: string }
    throw problem(code, detail)
  }
  const owner = { accountId, key, resourceId: state.resourceId }
  const keep = (status: number, body: object): Promise<boolean> =>
    router.write(shard, (trx) => finishKey(trx, owner, print, { status, body }))
  try {
    const body = await work.run()
    await keep(OK_STATUS, body)
    return body
  } catch (error) {
    if (error instanceof ProblemError && KEPT_STATUSES.has(error.status)) {
      await keep(error.status, { code: error.code, detail: error.detail })
      throw error
    }
    await releaseKey(router, owner, state.hold).catch((released: unknown) => {
      log.warn({ err: released }, 'the key of a request that failed stays locked until its hold runs out')
    })
    throw error
  }
}
