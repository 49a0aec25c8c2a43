import { sql, type Kysely, type Transaction } from 'kysely'
import { ADVISORY_LOCKS } from './advisory-locks.ts'

/** One change of the schema: applied once per node, in one transaction, in the order of the list. */
export interface Migration {
  readonly name: string
  up(trx: Transaction<unknown>): Promise<void>
}

/**
 * Brings one node's schema up to date. Safe to run twice and at once: the runs queue on one
 * transaction-level advisory lock, and each migration commits together with the row that says it ran.
 *
 * @param db a pool of the node, connected as the owner of the schema
 * @returns the names of the migrations that this call applied, in order
 * @throws whatever PostgreSQL says of the first migration that fails; earlier ones stay applied
 */
export async function migrateNode<DB>(db: Kysely<DB>, migrations: readonly Migration[]): Promise<string[]> {
  const applied: string[] = []
  for (const migration of migrations) {
    const ran = await db.transaction().execute(async (trx) => {
      await sql`select pg_advisory_xact_lock(${ADVISORY_LOCKS.migration})`.execute(trx)
      await sql`create table if not exists schema_migrations (
        name text primary key, applied_at timestamptz not null default now())`.execute(trx)
      const claimed = await sql`insert into schema_migrations (name) values (${migration.name})
        on conflict do nothing returning name`.execute(trx)
      if (claimed.rows.length === 0) return false
      await migration.up(trx as unknown as Transaction<unknown>)
      return true
    })
    if (ran) applied.push(migration.name)
  }
  return applied
}

/**
 * Refuses to go on against a node whose schema is older than the code.
 *
 * @throws Error that names the node, the missing migration and the command that applies it
 */
export async function assertMigrated<DB>(
  node: { readonly name: string; readonly primary: Kysely<DB> },
  migrations: readonly Migration[],
): Promise<void> {
  const names = migrations.map((migration) => migration.name)
  const present = await sql<{ present: boolean }>`
    select to_regclass('schema_migrations') is not null as present`.execute(node.primary)
  const rows = present.rows[0]?.present
    ? (await sql<{ name: string }>`select name from schema_migrations`.execute(node.primary)).rows
    : []
  const applied = new Set(rows.map((row) => row.name))
  const missing = names.find((name) => !applied.has(name))
  if (missing !== undefined) {
    throw new Error(
      `The database of ${node.name} lacks migration ${missing}. Run \`node scripts/migrate.ts\` (the release phase) first.`,
    )
  }
}
