import { sql, type Kysely, type Transaction } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { ADVISORY_LOCKS } from '../advisory-locks.ts'
import { bumpMapVersion } from '../handover.ts'
import type { PrimaryNode } from '../node.ts'
import { readStrays } from '../shard-state.ts'

/** A move that the directory announces. */
export interface AnnouncedMove {
  readonly shard: Shard
  readonly moveId: string
  /** Names of nodes. */
  readonly source: string
  readonly target: string
}

/** Somebody else is moving shards. */
export class MoverBusyError extends Error {
  constructor() {
    super('Shards are being moved by another command. Wait for its end, or stop it.')
    this.name = 'MoverBusyError'
  }
}

/**
 * Runs `work` while nobody else moves shards: a transaction of the directory holds the lock for as long, so it ends with
 * the process, however that ends.
 *
 * @param work is given what to call before each decisive step: it throws when the lock is lost
 * @throws MoverBusyError; whatever `work` throws
 */
export async function asOnlyMover<DB, T>(
  directory: Kysely<DB>,
  work: (assertOnly: () => Promise<void>) => Promise<T>,
): Promise<T> {
  return directory.transaction().execute(async (trx) => {
    await sql`select set_config('idle_in_transaction_session_timeout', '0', true)`.execute(trx)
    const { rows } = await sql<{ mine: boolean }>`
      select pg_try_advisory_xact_lock(${ADVISORY_LOCKS.moveShards}) as mine`.execute(trx)
    if (rows[0]?.mine !== true) throw new MoverBusyError()
    return work(async () => {
      await sql`select 1`.execute(trx)
    })
  })
}

/** All moves that are announced, oldest first. */
export async function readMoves<DB>(directory: Kysely<DB>): Promise<AnnouncedMove[]> {
  const { rows } = await sql<AnnouncedMove>`
    select shard, move_id as "moveId", source, target from shard_moves order by announced_at, shard`.execute(directory)
  return rows
}

/**
 * Announces that shards are on the move, those left out that are at the target or announced already. From then on
 * `MAP_LEASE_MS` must pass before the first of them departs.
 */
export async function announceMoves<DB>(directory: Kysely<DB>, shards: readonly Shard[], target: string): Promise<void> {
  await changeMoves(directory, (trx) => sql`
    insert into shard_moves (shard, source, target)
    select shard, node, ${target} from shard_map where shard = any(${shards}::smallint[]) and node <> ${target}
    on conflict do nothing returning shard`.execute(trx))
}

/**
 * The moves of shards that have departed from a node where the map still looks for them, and that are not announced: the
 * directory has forgotten them, as after a failover that lost its last transactions. Until they are announced again
 * nobody reaches these shards.
 */
export async function findForgottenMoves<DB>(
  directory: Kysely<DB>,
  node: PrimaryNode<DB>,
): Promise<AnnouncedMove[]> {
  const departed = (await readStrays(node.primary)).filter(({ state }) => state === 'departed')
  if (departed.length === 0) return []
  const { rows } = await sql<{ moveId: string }>`
    select d.move_id as "moveId"
    from unnest(${departed.map(({ shard }) => shard)}::smallint[], ${departed.map(({ moveId }) => moveId)}::uuid[]) as d (shard, move_id)
      join shard_map m on m.shard = d.shard and m.node = ${node.name}
    where not exists (select from shard_moves a where a.move_id = d.move_id)`.execute(directory)
  const forgotten = new Set(rows.map(({ moveId }) => moveId))
  return departed.flatMap(({ shard, moveId, peer }) =>
    forgotten.has(moveId) ? [{ shard, moveId, source: node.name, target: peer }] : [])
}

/** Announces forgotten moves as what they were, in place of others of the same shards, which could not begin. */
export async function announceAgain<DB>(directory: Kysely<DB>, moves: readonly AnnouncedMove[]): Promise<void> {
  for (const { shard, moveId, source, target } of moves) {
    await changeMoves(directory, (trx) => sql`
      insert into shard_moves (shard, move_id, source, target)
      select shard, ${moveId}, node, ${target} from shard_map where shard = ${shard} and node = ${source}
      on conflict (shard) do update set move_id = excluded.move_id, source = excluded.source, target = excluded.target
      returning shard`.execute(trx))
  }
}

/** Ends announcements: of shards that have arrived and are mapped, or that are at home and stay there. */
export async function endMoves<DB>(directory: Kysely<DB>, moveIds: readonly string[]): Promise<void> {
  await changeMoves(directory, (trx) =>
    sql`delete from shard_moves where move_id = any(${moveIds}::uuid[]) returning shard`.execute(trx))
}

async function changeMoves<DB>(
  directory: Kysely<DB>,
  change: (trx: Transaction<DB>) => Promise<{ readonly rows: readonly unknown[] }>,
): Promise<void> {
  await directory.transaction().execute(async (trx) => {
    if ((await change(trx)).rows.length > 0) await bumpMapVersion(trx)
  })
}
