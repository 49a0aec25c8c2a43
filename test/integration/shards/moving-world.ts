import { sql } from 'kysely'
import type { Test } from 'tap'
import { shardOf, type Id, type Shard } from '#kernel/snowflake.ts'
import { shardOfName } from '#kernel/shard-hash.ts'
import { addDelta } from '#domain/counters/counters.queries.ts'
import type { Db } from '#domain/database.ts'
import { SHARDED_TABLES } from '#domain/shards/sharded-tables.ts'
import type { MoveContext } from '#domain/shards/move-shards.ts'
import { selectRows } from '#platform/postgres/shard-moves/sharded-table.ts'
import { openFeedWorld, type FeedWorld } from '../feed/feed-world.ts'

/** The names of the two nodes of a `FeedWorld`. */
export const FIRST = 'DATABASE_URL'
export const SECOND = 'SECOND_URL'

/** A domain on two nodes whose shards move. */
export interface MovingWorld extends FeedWorld {
  readonly source: Db
  readonly target: Db
  /** To move shards with: this world's router is the only one, so what is waited for is its look at the map. */
  readonly movers: MoveContext
}

/** All shards of the lower half are on the first node. @param urls as of `openFeedWorld` */
export async function openMovingWorld(t: Test, urls: { firstUrl?: string; secondUrl?: string } = {}): Promise<MovingWorld> {
  const world = await openFeedWorld(t, { nodes: 2, ...urls })
  const [source, target] = world.dbs
  if (source === undefined || target === undefined) throw new Error('two nodes')
  const { router, config, clock, log } = world
  return { ...world, source, target, movers: { router, config, clock, log, sleep: () => router.refresh() } }
}

/** Gives an account one row, at least, in every table that moves; the name is for what routes by its hash. */
export async function furnish(world: FeedWorld, accountId: Id, name: string): Promise<void> {
  const { router } = world
  const later = new Date(Date.UTC(2030, 0, 1))
  await router.write(shardOf(accountId), async (trx) => {
    await trx.insertInto('credentials').values({ account_id: accountId, password_hash: `hash of ${name}` }).execute()
    for (const agent of ['one', 'two']) {
      const session = { account_id: accountId, id: world.mint(shardOf(accountId)), secret_hash: Buffer.from([0, 255]), user_agent: agent, expires_at: later }
      await trx.insertInto('sessions').values(session).execute()
    }
    await trx
      .insertInto('idempotency_keys')
      .values({ account_id: accountId, key: 'k', resource_id: accountId, locked_until: later, fingerprint: 'f', status: 202, response: JSON.stringify({ a: [1] }), created_at: later })
      .execute()
    for (const delta of [1, 1, -1]) await addDelta(trx, accountId, 'following', delta)
    await sql`insert into counters (subject_id, kind, total) values (${accountId}, 'photos', 4)`.execute(trx)
  })
  const shard = shardOfName(name)
  await router.write(shard, async (trx) => {
    await trx.insertInto('usernames').values({ username: name, shard, account_id: accountId, claimed_at: later }).execute()
    await trx.insertInto('emails').values({ email: name, shard, account_id: accountId, claimed_at: null }).execute()
    await trx
      .insertInto('anonymous_idempotency_keys')
      .values({ key: name, shard, resource_id: accountId, locked_until: later, fingerprint: 'f', status: null, response: null, created_at: later })
      .execute()
  })
}

/** All rows of shards on a node, by table, but for what arriving does to floors. */
export async function rowsOf(db: Db, shards: readonly Shard[]): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {}
  for (const table of SHARDED_TABLES.moved) {
    const rows: string[] = []
    for (const shard of shards) {
      const answer = await sql<{ row: string }>`select
          (to_jsonb(r) - 'feed_floor' - 'feed_raises' - 'rebuild_asked_at')::text as row
        from (${sql.raw(selectRows(table, shard))}) as r`.execute(db)
      rows.push(...answer.rows.map(({ row }) => row))
    }
    found[table.name] = rows.sort()
  }
  return found
}

/** What a node says of shards that are not at home there. */
export async function statesOf(db: Db): Promise<Record<number, string>> {
  const { rows } = await sql<{ shard: Shard; state: string }>`select shard, state from shard_state`.execute(db)
  return Object.fromEntries(rows.map(({ shard, state }) => [shard, state]))
}
