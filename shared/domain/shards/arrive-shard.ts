import { sql } from 'kysely'
import type { Id, Shard } from '#kernel/snowflake.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import type { Db, Trx } from '../database.ts'
import { feedsArrived } from '../feed/feed.events.ts'
import { raiseFloor } from '../feed/feed.rebuild.ts'
import { arrivedFloor, raisedFloor } from '../feed/feed.rules.ts'

/** Accounts whose rebuilds one message asks for, in one transaction of a worker. */
const PAGE_ACCOUNTS = 500
/** Measured with 30,000, as two cores did it beside six processes that never rest; on quiet ones it is three times as many. */
const ARRIVED_ACCOUNTS_PER_MS = 300
/** The same for those whose floors are raised on arrival. */
const RAISED_ACCOUNTS_PER_MS = 20

/**
 * What is done in the transaction in which a logical shard arrives on its new node. Stored feeds do not travel: their
 * floors must be above all that a fan-out can have brought past them on the way. The copy has raised them so far
 * (`sharded-tables.ts`), since writes wait for what is done here; only where that was too long ago, they are raised now.
 * And rebuilds are asked for, but of those who are not here (`dormancy.ts`): a message for many, from which a worker
 * makes one for each. Accounts that are deleted or never came to be have no feed.
 *
 * The cache may still have following sets with the floors of before. That is no harm: who reads stored entries learns
 * today's floor with them (`feed.skeleton.ts`).
 */
export async function arriveShard(trx: Trx, shard: Shard, nowMs: number): Promise<void> {
  const low = await sql<{ id: Id }>`
    select id from accounts
    where ((id >> 10) & 8191) = ${shard} and status = 'active' and feed_floor < ${arrivedFloor(nowMs)}`.execute(trx)
  if (low.rows.length > 0) await raiseFloor(trx, low.rows.map(({ id }) => id), raisedFloor(nowMs))
  const pages = await sql<{ first: Id; last: Id }>`
    select min(id) as first, max(id) as last from (
      select id, (row_number() over (order by id) - 1) / ${PAGE_ACCOUNTS} as page from accounts
      where ((id >> 10) & 8191) = ${shard} and status = 'active' and not dormant
    ) as here group by page order by page`.execute(trx)
  await publishEvents(
    trx,
    pages.rows.map(({ first, last }) => message(feedsArrived, { first: first.toString(), last: last.toString() })),
  )
}

/** How long the arrival of so many accounts takes, roughly, and rather too long, where the copy has raised their floors. */
export function arrivalMs(accounts: number): number {
  return accounts / ARRIVED_ACCOUNTS_PER_MS
}

/** The same for a shard whose accounts have been copied to a node, and its copy's age considered. */
export async function estimateArrival(target: Db, shard: Shard, nowMs: number): Promise<number> {
  const { rows } = await sql<{ accounts: number; low: number }>`
    select count(*)::int as accounts, (count(*) filter (where feed_floor < ${arrivedFloor(nowMs)}))::int as low from accounts
    where ((id >> 10) & 8191) = ${shard} and status = 'active'`.execute(target)
  const { accounts, low } = rows[0] ?? { accounts: 0, low: 0 }
  return arrivalMs(accounts) + low / RAISED_ACCOUNTS_PER_MS
}
