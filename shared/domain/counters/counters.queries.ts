import { sql } from 'kysely'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import type { AppRouter, Db, Trx } from '../database.ts'
import type { CounterKind } from './counters.table.ts'

/** Deltas folded by one statement. */
const FOLD_BATCH_ROWS = 2_000

/**
 * Changes a count by `delta` (any whole number but 0) as part of the caller's transaction: an append, never an
 * update of a shared row. `followers` is written on the follower's node, the other kinds on the subject's.
 */
export async function addDelta(trx: Trx, subjectId: Id, kind: CounterKind, delta: number): Promise<void> {
  await trx.insertInto('counter_deltas').values({ subject_id: subjectId, kind, delta }).execute()
}

/**
 * The exact counts of those kinds for each of `ids`, 0 where nothing was ever counted: one statement per node, so
 * that its snapshot sees every change once, either as a delta or in the total. Followers are summed over all nodes;
 * what a shard that has moved left behind does not count a second time.
 */
export async function readCounts<K extends CounterKind>(
  router: AppRouter,
  ids: readonly Id[],
  kinds: readonly K[],
): Promise<Map<Id, Record<K, number>>> {
  const zero = (): Record<K, number> => Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<K, number>
  const counts = new Map(ids.map((id) => [id, zero()]))
  const everywhere = kinds.some((kind) => kind === 'followers')
  const sums = (db: Db, subjects: readonly Id[]): Promise<Sum<K>[]> => readSums(db, subjects, kinds)
  const answers = everywhere
    ? await router.readNodes((db) => sums(db, ids))
    : await router.readEach(ids, shardOf, sums)
  for (const row of answers.flat()) {
    const count = counts.get(row.subject_id)
    if (count !== undefined) count[row.kind] += Number(row.count)
  }
  return counts
}

interface Sum<K> {
  readonly subject_id: Id
  readonly kind: K
  readonly count: bigint
}

async function readSums<K extends CounterKind>(db: Db, subjects: readonly Id[], kinds: readonly K[]): Promise<Sum<K>[]> {
  const { rows } = await sql<Sum<K>>`
    select subject_id, kind, sum(amount)::bigint as count from (
      select subject_id, kind, total as amount from counters where subject_id = any(${subjects}::bigint[])
      union all
      select subject_id, kind, delta from counter_deltas where subject_id = any(${subjects}::bigint[])
    ) as parts where kind = any(${kinds}::text[]) and (kind = 'followers' or ${atHome('subject_id')})
    group by subject_id, kind`.execute(db)
  return rows
}

/**
 * Moves one batch of a node's deltas into the totals. Safe to run many times at once: the runs take different
 * deltas, and touch the totals in one order.
 *
 * @returns how many deltas it folded; fewer than `batchRows` means that none are left to take
 */
export async function foldDeltas(db: Db, batchRows = FOLD_BATCH_ROWS): Promise<number> {
  // One statement: a reader's snapshot has either the deltas or their sum. A shard on the move keeps its deltas,
  // except for followers, which are counted here whatever shard the followed account is on.
  const { rows } = await sql<{ folded: bigint }>`
    with batch as materialized (
      select id from counter_deltas d
      where kind = 'followers' or ${atHome('d.subject_id')}
      order by id limit ${batchRows} for update of d skip locked
    ), taken as (
      delete from counter_deltas d using batch where d.id = batch.id returning d.subject_id, d.kind, d.delta
    ), folded as (
      insert into counters as c (subject_id, kind, total)
      select subject_id, kind, sum(delta) from taken group by subject_id, kind order by subject_id, kind
      on conflict (subject_id, kind) do update set total = c.total + excluded.total
    )
    select count(*) as folded from taken`.execute(db)
  return Number(rows[0]?.folded ?? 0n)
}

/**
 * Counts the followers of accounts anew from a node's own follows, those of shards that are on the move left out, which
 * must not be any. Folds and changes may run meanwhile.
 *
 * @throws whatever PostgreSQL says; serialization_failure (40001) when deltas were folded meanwhile: run it again
 */
export async function recountFollowers(db: Db, subjects: readonly Id[]): Promise<void> {
  // One snapshot has a follow and its delta, or neither; and a total that changes after it was taken is not overwritten.
  await db.transaction().setIsolationLevel('repeatable read').execute(async (trx) => {
    await sql`
      insert into counters (subject_id, kind, total)
      select subject_id, 'followers',
        (select count(*) from follows where followee_id = subject_id and ${atHome('follower_id')})
        - (select coalesce(sum(delta), 0) from counter_deltas d where d.subject_id = given.subject_id and d.kind = 'followers')
      from unnest(${subjects}::bigint[]) as given (subject_id)
      order by subject_id
      on conflict (subject_id, kind) do update set total = excluded.total
      where counters.total <> excluded.total`.execute(trx)
  })
}
