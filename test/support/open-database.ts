import { pino } from 'pino'
import type { Test } from 'tap'
import type { Database, Db } from '#domain/database.ts'
import { openPool } from '#platform/postgres/pool.ts'

const CONNECTIONS_MAX = 2

/** A look into the database of a running system, for what HTTP does not show; closed at teardown. */
export function openDatabase(t: Test, url: string): Db {
  const db = openPool<Database>({ url, max: CONNECTIONS_MAX, applicationName: 'test' }, pino({ level: 'silent' }))
  t.teardown(() => db.destroy())
  return db
}
