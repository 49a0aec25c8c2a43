import { sql } from 'kysely'
import type { Id, Shard } from '#kernel/snowflake.ts'
import type { Trx } from '../database.ts'
import { raiseFloor, requestRebuild } from '../feed/feed.rebuild.ts'
import { raisedFloor } from '../feed/feed.rules.ts'

/**
 * What is done in the transaction in which a logical shard arrives on its new node. Stored feeds do not travel: the
 * floors are raised above all that a fan-out can have brought past them on the way, and rebuilds are asked for, but of
 * those who are not here (`dormancy.ts`). Accounts that are deleted or never came to be have no feed.
 *
 * The cache may still have following sets with the floors of before. That is no harm: who reads stored entries learns
 * today's floor with them (`feed.skeleton.ts`).
 */
export async function arriveShard(trx: Trx, shard: Shard, nowMs: number): Promise<void> {
  const { rows } = await sql<{ id: Id; isHere: boolean }>`
    select id, not dormant as "isHere" from accounts
    where ((id >> 10) & 8191) = ${shard} and status = 'active'`.execute(trx)
  if (rows.length === 0) return
  await raiseFloor(trx, rows.map(({ id }) => id), raisedFloor(nowMs))
  await requestRebuild(trx, rows.flatMap(({ id, isHere }) => (isHere ? [id] : [])))
}
