import { createActivity, type Activity } from '#domain/accounts/activity.ts'
import { createPasswords, type Passwords } from '#domain/accounts/passwords.ts'
import type { Context } from '#domain/context.ts'
import { createLocalRateStore, createSharedRateStore, type RateStore } from './rate-limits.ts'

/** The process's context and what only the web process needs. */
export interface WebContext extends Context {
  readonly passwords: Passwords
  readonly activity: Activity
  readonly rates: RateStore
}

/** Adds the web process's own parts to a context; a test may give its own. */
export function createWebContext(
  context: Context,
  overrides: Partial<Omit<WebContext, keyof Context>> = {},
): WebContext {
  return {
    ...context,
    passwords: overrides.passwords ?? createPasswords(),
    activity: overrides.activity ?? createActivity(context),
    rates: overrides.rates ?? createSharedRateStore(context.cache, createLocalRateStore(context.clock), context.clock),
  }
}
