import { sql, type RawBuilder } from 'kysely'

/**
 * The condition of node-wide statements: that the row routed by the id in `column` is this node's, as its shard is
 * neither arriving nor departed. The list is read once per statement, and the order of an index scan survives.
 */
export function atHome(column: string): RawBuilder<boolean> {
  return sql<boolean>`(((${sql.ref(column)} >> 10) & 8191)::smallint <> all (array(select shard from shard_state where state <> 'gone')))`
}
