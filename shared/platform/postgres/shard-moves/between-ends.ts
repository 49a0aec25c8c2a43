import { readColumns, STEADY, type ColumnsOf, type Ends } from './align-rows.ts'
import type { AnnouncedMove } from './announcements.ts'
import { inTransaction } from './copy-connection.ts'
import { ShardRefusedError } from './shard-refused.ts'
import type { ShardedTables } from './sharded-table.ts'

/**
 * Runs `work` in a transaction of each end: on a snapshot of the source, and on a target that expects this very move.
 *
 * @param statementMs how long each of their statements may take; 0: as long as it wants
 */
export async function betweenEnds<T>(
  tables: ShardedTables,
  { shard, moveId, target }: AnnouncedMove,
  ends: Ends,
  statementMs: number,
  work: (columns: ColumnsOf) => Promise<T>,
): Promise<T> {
  const columns = await readColumns(ends.source, tables.moved)
  const steady = `${STEADY}, set_config('statement_timeout', '${statementMs}', true)`
  return inTransaction(ends.source, 'isolation level repeatable read read only', async () => {
    await ends.source.query(steady)
    return inTransaction(ends.target, '', async () => {
      await ends.target.query(steady)
      const expected = await ends.target.query(`select from shard_state
        where shard = ${shard} and move_id = '${moveId}' and state = 'arriving' for update`)
      if (expected.length === 0) throw new ShardRefusedError(`Logical shard ${shard} is not expected on ${target} any more.`)
      return work(columns)
    })
  })
}
