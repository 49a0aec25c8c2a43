import type { QueryExecutorProvider } from 'kysely'
import type { Logger } from '../logger/logger.ts'
import { buryClaims, deleteClaims, releaseClaims, type BuriedClaim, type ClaimKey, type ReleasedClaim } from './claims.ts'
import type { JobEnd, JobMetrics } from './job-metrics.ts'
import type { Outcome } from './transport.ts'

const RETRY_MS = 500

/** Brings the outcomes of one node's claims into the database, those of a tick in one statement of each kind. */
export interface Settler {
  settle(claim: ClaimKey, outcome: Outcome): void
  /** Settles when everything handed in so far has been written, or once `stop` was called. */
  flushed(): Promise<void>
  /** No further tries: what could not be written comes back when its claim runs out. */
  stop(): void
}

/**
 * @param onSettled told how many claims were written (or found lost), so that as many may be claimed anew
 */
export function createSettler(
  db: QueryExecutorProvider,
  context: { queue: string; log: Logger; metrics: JobMetrics; onSettled: (count: number) => void },
): Settler {
  let done: ClaimKey[] = []
  let released: ReleasedClaim[] = []
  let buried: BuriedClaim[] = []
  let flush: Promise<void> | undefined
  let stopped = false

  async function write<T>(claims: T[], end: JobEnd, statement: (claims: T[]) => Promise<number>): Promise<void> {
    if (claims.length === 0) return
    const written = await untilWritten(() => statement(claims))
    if (written === undefined) return
    context.metrics.ended(context.queue, end, written)
    if (written < claims.length) {
      const lost = claims.length - written
      context.metrics.ended(context.queue, 'lost', lost)
      context.log.warn({ queue: context.queue, lost }, 'jobs outlived their claims; others have them now')
    }
    context.onSettled(claims.length)
  }

  /** The statement's result; undefined when it was given up. Writing twice is harmless: the token is then gone. */
  async function untilWritten(statement: () => Promise<number>): Promise<number | undefined> {
    while (!stopped) {
      try {
        return await statement()
      } catch (error) {
        context.log.warn({ err: error, queue: context.queue }, 'could not settle jobs; trying again')
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
      }
    }
    return undefined
  }

  async function flushAll(): Promise<void> {
    // What ends in the rest of this tick joins in.
    await new Promise((resolve) => setImmediate(resolve))
    while (done.length + released.length + buried.length > 0 && !stopped) {
      const batch = { done, released, buried }
      done = []
      released = []
      buried = []
      await Promise.all([
        write(batch.done, 'done', (claims) => deleteClaims(db, claims)),
        write(batch.released.filter((claim) => claim.failure !== null), 'retried', (claims) => releaseClaims(db, claims)),
        write(batch.released.filter((claim) => claim.failure === null), 'returned', (claims) => releaseClaims(db, claims)),
        write(batch.buried, 'dead', (claims) => buryClaims(db, claims)),
      ])
    }
    flush = undefined
  }

  return {
    settle({ id, token }, outcome) {
      switch (outcome.kind) {
        case 'done':
          done.push({ id, token })
          break
        case 'retry':
          released.push({ id, token, delayMs: outcome.delayMs, failure: outcome.failure })
          break
        case 'returned':
          released.push({ id, token, delayMs: 0, failure: null })
          break
        case 'dead':
          buried.push({ id, token, failure: outcome.failure })
          break
      }
      flush ??= flushAll()
    },
    flushed: async () => flush,
    stop() {
      stopped = true
    },
  }
}
