import { sql } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import type { Db } from '#domain/database.ts'
import { DORMANT_AFTER_MS, putToRest } from '#domain/feed/dormancy.ts'
import { atHome } from '#platform/postgres/at-home.ts'

/** Accounts looked at by one statement. There is no index by last_seen_at: each use of an account would write to it. */
const BATCH_ROWS = 2_000

type RestContext = Pick<Context, 'router' | 'clock' | 'log'>

/**
 * Marks the accounts dormant that nobody has used for a month. Each run looks at the next accounts of every node and the
 * one after goes on behind them, from the start again at the end.
 *
 * @returns a function that does one part; it says whether there is more
 */
export function accountsRester({ router, clock, log }: RestContext, batch = BATCH_ROWS): () => Promise<boolean> {
  let after = new Map<string, Id>()
  return async () => {
    const before = new Date(clock.nowMs() - DORMANT_AFTER_MS)
    const next = new Map<string, Id>()
    let rested = 0
    for (const { name, primary } of router.nodes) {
      const from = after.size === 0 ? (0n as Id) : after.get(name)
      if (from === undefined) continue
      const page = await readPage(primary, from, before, batch)
      for (const id of page.unseen) {
        if (await router.write(shardOf(id), (trx) => putToRest(trx, id, before))) rested++
      }
      if (page.accounts === batch && page.last !== null) next.set(name, page.last)
    }
    if (rested > 0) log.info({ rested }, 'accounts that nobody uses were put to rest')
    after = next
    return next.size > 0
  }
}

interface AccountsPage {
  readonly accounts: number
  readonly last: Id | null
  readonly unseen: readonly Id[]
}

async function readPage(db: Db, after: Id, before: Date, rows: number): Promise<AccountsPage> {
  const answer = await sql<{ accounts: bigint; last: Id | null; unseen: string[] | null }>`
    select count(*) as accounts, max(id) as last,
      array_agg(id::text) filter (where status = 'active' and not dormant and last_seen_at < ${before}) as unseen
    from (
      select id, status, dormant, last_seen_at from accounts
      where id > ${after} and ${atHome('id')} order by id limit ${rows}
    ) as page`.execute(db)
  const [row] = answer.rows
  return {
    accounts: Number(row?.accounts ?? 0n),
    last: row?.last ?? null,
    unseen: (row?.unseen ?? []).map((id) => BigInt(id) as Id),
  }
}
