import { sql } from 'kysely'
import { sweepReservations } from '#domain/accounts/reservations.ts'
import type { Context } from '#domain/context.ts'
import { foldDeltas } from '#domain/counters/counters.queries.ts'
import type { Db } from '#domain/database.ts'
import { dropExpiredPartitions, ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { dropStaleFanoutCursors } from '#domain/feed/feed.writes.ts'
import { cleanShards } from '#domain/shards/clean-shards.ts'
import { KEY_LIFE_MS } from '#domain/idempotency/idempotency.queries.ts'
import { eachNode } from './each-node.ts'
import type { Chore } from '#platform/lifecycle/house-keeper.ts'
import { createSweeper } from '#platform/memcached/invalidations.ts'
import { reconcileFeeds, UNBUILT_AFTER_MS } from './reconcile-feeds.ts'
import { reconcileFollows, UNFILLED_AFTER_MS } from './reconcile-follows.ts'
import { reconcilePhotos } from './reconcile-photos.ts'
import { accountsRester } from './rest-accounts.ts'
import { originalsSweeper } from './sweep-originals.ts'
import { tendPulledAuthors } from './tend-pulled-authors.ts'

const SECOND_MS = 1_000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS

const FOLD_BATCH_ROWS = 2_000
const DELETE_BATCH_ROWS = 1_000
/** A cursor that has not moved for so long belongs to a fan-out that ended between its last two steps. */
const CURSOR_STALE_MS = 24 * HOUR_MS
/** All accounts are looked at in each: a few milliseconds for two thousand. */
const REST_INTERVAL_MS = 6 * HOUR_MS
/** An upload is over long before. */
const TEMPORARY_BLOB_AGE_MS = HOUR_MS

type ChoreContext = Pick<Context, 'router' | 'cache' | 'clock' | 'blobs' | 'log'>

/** Everything that a Monogram needs done now and then, on every node. */
export function chores(context: ChoreContext): Chore[] {
  const { router, cache, clock, blobs, log } = context
  const sweeper = createSweeper(cache, clock)
  const before = (ageMs: number): Date => new Date(clock.nowMs() - ageMs)

  /** A chore of batches: there is more as long as some node has a full one. */
  const inBatches = (name: string, intervalMs: number, rows: number, batch: (db: Db) => Promise<number>): Chore => ({
    name,
    intervalMs,
    async run() {
      let more = false
      await eachNode(router, async (db) => {
        if ((await batch(db)) >= rows) more = true
      })
      return more
    },
  })
  const once = (name: string, intervalMs: number, work: () => Promise<unknown>): Chore => ({
    name,
    intervalMs,
    run: async () => {
      await work()
      return false
    },
  })

  return [
    inBatches('fold counters', SECOND_MS, FOLD_BATCH_ROWS, (db) => foldDeltas(db, FOLD_BATCH_ROWS)),
    once('sweep cache invalidations', SECOND_MS, () =>
      eachNode(router, async (db) => {
        await sweeper.sweep(db)
      }),
    ),
    once('make partitions', HOUR_MS, () =>
      eachNode(router, async (db) => {
        await ensurePartitions(db, clock.nowMs())
        await dropExpiredPartitions(db, clock.nowMs())
      }),
    ),
    once('reconcile photos', MINUTE_MS, () =>
      eachNode(router, async (db) => {
        await reconcilePhotos(db, log)
      }),
    ),
    once('reconcile follows', UNFILLED_AFTER_MS, () =>
      eachNode(router, async (db) => {
        await reconcileFollows(db, clock.nowMs(), log)
      }),
    ),
    once('reconcile feeds', UNBUILT_AFTER_MS, () =>
      eachNode(router, async (db) => {
        await reconcileFeeds(db, log)
      }),
    ),
    inBatches('drop idempotency keys', MINUTE_MS, DELETE_BATCH_ROWS, (db) => dropOldKeys(db, before(KEY_LIFE_MS))),
    inBatches('drop anonymous idempotency keys', MINUTE_MS, DELETE_BATCH_ROWS, (db) => dropOldAnonymousKeys(db, before(KEY_LIFE_MS))),
    inBatches('drop expired sessions', 10 * MINUTE_MS, DELETE_BATCH_ROWS, (db) => dropSessions(db, before(0))),
    inBatches('drop stale cursors', HOUR_MS, DELETE_BATCH_ROWS, (db) =>
      dropStaleFanoutCursors(db, before(CURSOR_STALE_MS), DELETE_BATCH_ROWS),
    ),
    once('sweep reservations', MINUTE_MS, () => sweepReservations(context)),
    once('tend pulled authors', HOUR_MS, () => tendPulledAuthors(context)),
    { name: 'put accounts to rest', intervalMs: REST_INTERVAL_MS, run: accountsRester(context) },
    {
      name: 'clean up after shards that have moved',
      intervalMs: MINUTE_MS,
      run: async () => (await cleanShards(router)).rest > 0,
    },
    { name: 'sweep stray originals', intervalMs: HOUR_MS, run: originalsSweeper(context) },
    once('sweep temporary blobs', HOUR_MS, () => blobs.sweep(TEMPORARY_BLOB_AGE_MS)),
  ]
}

async function dropOldKeys(db: Db, before: Date): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from idempotency_keys where (account_id, key) in (
      select account_id, key from idempotency_keys where created_at < ${before}
      order by created_at limit ${DELETE_BATCH_ROWS} for update skip locked
    )`.execute(db)
  return Number(numAffectedRows ?? 0n)
}

async function dropOldAnonymousKeys(db: Db, before: Date): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from anonymous_idempotency_keys where key in (
      select key from anonymous_idempotency_keys where created_at < ${before}
      order by created_at limit ${DELETE_BATCH_ROWS} for update skip locked
    )`.execute(db)
  return Number(numAffectedRows ?? 0n)
}

async function dropSessions(db: Db, before: Date): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from sessions where (account_id, id) in (
      select account_id, id from sessions where expires_at < ${before}
      order by expires_at limit ${DELETE_BATCH_ROWS} for update skip locked
    )`.execute(db)
  return Number(numAffectedRows ?? 0n)
}
