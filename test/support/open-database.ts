import { pino } from 'pino'
import type { Test } from 'tap'
import type { Database, Db } from '#domain/database.ts'
import { openPool } from '#platform/postgres/pool.ts'
import type { TestTier } from './tier.ts'

const CONNECTIONS_MAX = 2

/** A look into the database of a running system, for what HTTP does not show; closed at teardown. */
export function openDatabase(t: Test, url: string): Db {
  const db = openPool<Database>({ url, max: CONNECTIONS_MAX, applicationName: 'test' }, pino({ level: 'silent' }))
  t.teardown(() => db.destroy())
  return db
}

/** A node's database, by the name that the shard map has for it. */
export interface NodeDatabase {
  readonly name: string
  readonly db: Db
}

/** The same for the primary of every node of a tier, past any pooler; the directory first. */
export function openNodes(t: Test, { nodes }: TestTier): NodeDatabase[] {
  return nodes.map(({ name, primary }) => ({ name, db: openDatabase(t, primary.url) }))
}
