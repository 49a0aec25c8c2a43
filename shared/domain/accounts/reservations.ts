import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { AppRouter } from '../database.ts'
import { claimName, freeName, listUnclaimed, type Reservation } from './reservations.queries.ts'

/** How old an unclaimed reservation is when its sign-up is surely over: a request ends within two minutes. */
export const RESERVATION_AGE_MS = 10 * 60_000
const SWEEP_BATCH_ROWS = 500
const KINDS = ['username', 'email'] as const

export type Settlement = 'claimed' | 'freed'

/**
 * Ends a reservation whose sign-up did not: claims it if the account was made, else frees it. A `void` row takes
 * the account's id first, so that a sign-up which is merely slow fails from then on, and can never make an account
 * whose name is another's.
 */
export async function settleReservation(router: AppRouter, reservation: Reservation): Promise<Settlement> {
  const { kind, name, accountId } = reservation
  const account = await voidUnlessMade(router, accountId)
  const holds = account.status === 'active' && account[kind] === name
  if (holds) await claimName(router, reservation)
  else await freeName(router, reservation)
  return holds ? 'claimed' : 'freed'
}

/**
 * Settles every node's reservations, usernames and emails, that are older than `olderThanMs` and unclaimed:
 * a batch per node and kind. Safe to run many times at once.
 *
 * @returns how many were claimed and freed
 * @throws the first error, once everything has been tried
 */
export async function sweepReservations(
  context: { readonly router: AppRouter },
  olderThanMs = RESERVATION_AGE_MS,
): Promise<Record<Settlement, number>> {
  const { router } = context
  const settled = { claimed: 0, freed: 0 }
  const failures: unknown[] = []
  // One that cannot be settled, its account's node being down, holds back none of the others.
  const keep = (error: unknown): void => void failures.push(error)
  for (const node of router.nodes) {
    for (const kind of KINDS) {
      const page = { olderThanMs, limit: SWEEP_BATCH_ROWS }
      const reservations = (await listUnclaimed(node.primary, kind, page).catch(keep)) ?? []
      for (const reservation of reservations) {
        const settlement = await settleReservation(router, reservation).catch(keep)
        if (settlement !== undefined) settled[settlement]++
      }
    }
  }
  if (failures.length > 0) throw failures[0]
  return settled
}

/** The account of that id; where there is none, a void row from now on. */
async function voidUnlessMade(router: AppRouter, id: Id) {
  return router.write(shardOf(id), async (trx) => {
    await trx
      .insertInto('accounts')
      .values({ id, status: 'void', username: '', display_name: '', email: null, feed_floor: 0n as Id })
      .onConflict((conflict) => conflict.column('id').doNothing())
      .execute()
    return trx
      .selectFrom('accounts')
      .select(['status', 'username', 'email'])
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
  })
}
