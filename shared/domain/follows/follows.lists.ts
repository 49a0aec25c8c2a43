import type { Id } from '#kernel/snowflake.ts'
import { findAccounts, type AccountRow } from '../accounts/accounts.queries.ts'
import type { AppRouter } from '../database.ts'
import { listFollowees, listFollowers, type FollowPage } from './follows.queries.ts'

/** Pages read to fill one: more would take a long run of accounts that are gone. */
const ROUNDS_MAX = 10

/** Accounts, and the follows.id to go on from; null at the end of the list. */
export interface FollowList {
  readonly accounts: readonly AccountRow[]
  readonly next: Id | null
}

/** The active accounts that follow one, newest follow first. */
export async function readFollowers(router: AppRouter, accountId: Id, page: FollowPage): Promise<FollowList> {
  return fillPage(router, page, async (part) =>
    (await listFollowers(router, accountId, part)).map((row) => ({ at: row.id, accountId: row.follower_id })),
  )
}

/** The active accounts that one follows, newest follow first. */
export async function readFollowees(router: AppRouter, accountId: Id, page: FollowPage): Promise<FollowList> {
  return fillPage(router, page, async (part) =>
    (await listFollowees(router, accountId, part)).map((row) => ({ at: row.id, accountId: row.followee_id })),
  )
}

interface Place {
  readonly at: Id
  readonly accountId: Id
}

/** Reads on past accounts that are gone until the page is full or the list ends. */
async function fillPage(
  router: AppRouter,
  { before, limit }: FollowPage,
  read: (part: FollowPage) => Promise<Place[]>,
): Promise<FollowList> {
  const accounts: AccountRow[] = []
  let from = before
  for (let round = 0; round < ROUNDS_MAX; round++) {
    // One more than is shown: it tells whether there is a next page.
    const places = await read({ before: from, limit: limit + 1 })
    const found = await findAccounts(router, places.map((place) => place.accountId))
    for (const [i, place] of places.entries()) {
      const account = found.get(place.accountId)
      if (account !== undefined) accounts.push(account)
      from = place.at
      if (accounts.length === limit) return { accounts, next: i < places.length - 1 ? from : null }
    }
    if (places.length <= limit) return { accounts, next: null }
  }
  return { accounts, next: from }
}
