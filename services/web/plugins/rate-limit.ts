import type { FastifyReply, FastifyRequest } from 'fastify'
import { problem } from '#kernel/errors.ts'
import { networkOf, rateHeaders, type RatePolicy, type RateStore } from '../rate-limits.ts'

/** Wrong passwords for one name, from anywhere. */
export const SIGN_IN_BY_NAME: RatePolicy = { name: 'signin', quota: 10, windowSeconds: 60 }
/** Wrong passwords from one address, for any names. */
export const SIGN_IN_BY_ADDRESS: RatePolicy = { name: 'signin-address', quota: 60, windowSeconds: 60 }
/** Accounts made, or tried, from one address. */
export const SIGN_UP_BY_ADDRESS: RatePolicy = { name: 'signup', quota: 240, windowSeconds: 60 }

/** A policy, and whom it counts. */
export interface RateUse {
  readonly policy: RatePolicy
  readonly key: string
}

/** Uses that were taken; they may turn out not to count. */
export interface TakenUses {
  giveBack(): Promise<void>
}

/**
 * Takes one use of each policy, and says in the headers what is left.
 *
 * @throws ProblemError rate_limited when one of them has none left
 */
export async function takeUses(store: RateStore, reply: FastifyReply, uses: readonly RateUse[]): Promise<TakenUses> {
  const decisions = await Promise.all(uses.map((use) => store.take(use.policy, use.key)))
  reply.headers(rateHeaders(decisions))
  const refused = decisions.filter((decision) => !decision.allowed)
  if (refused.length > 0) {
    throw problem('rate_limited', 'Too many tries. Wait before the next one.', {
      retryAfterSeconds: Math.max(...refused.map((decision) => decision.seconds)),
    })
  }
  return {
    async giveBack() {
      await Promise.all(uses.map((use) => store.giveBack(use.policy, use.key)))
    },
  }
}

/** The address that a request counts for. */
export function addressOf(request: FastifyRequest): string {
  return networkOf(request.ip)
}
