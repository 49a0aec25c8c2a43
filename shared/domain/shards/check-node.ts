import { sql } from 'kysely'
import { migrations } from '#migrations/migrations.ts'
import { assertMigrated } from '#platform/postgres/migrate.ts'
import type { Node } from '#platform/postgres/node.ts'
import type { Database, Db } from '../database.ts'
import { SHARDED_TABLES } from './sharded-tables.ts'

/**
 * Makes sure that a node to which no shard was ever moved is fit for that: it answers, is migrated, and has no rows of
 * another life.
 *
 * @throws Error that says what is wrong with it; whatever the node says when it does not answer
 */
export async function checkNewNode(node: Node<Database>): Promise<void> {
  await assertMigrated(node, migrations)
  const table = await findTableWithRows(node.primary)
  if (table !== undefined) throw new Error(`${node.name} has rows in ${table}: is it the server of another Monogram?`)
  const { rows } = await sql`select from shard_map limit 1`.execute(node.primary)
  if (rows.length > 0) throw new Error(`${node.name} has a shard map of its own: is it the directory of another Monogram?`)
}

/** The name of a table of shards that has rows on a node; undefined when there is none. */
export async function findTableWithRows(db: Db): Promise<string | undefined> {
  for (const { name } of [...SHARDED_TABLES.moved, ...SHARDED_TABLES.left]) {
    const { rows } = await sql`select from ${sql.table(name)} limit 1`.execute(db)
    if (rows.length > 0) return name
  }
  return undefined
}
