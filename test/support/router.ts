import { pino } from 'pino'
import type { Test } from 'tap'
import type { AppRouter, Database } from '#domain/database.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { createTestDatabase } from './database.ts'

const CONNECTIONS_MAX = 8

/** A router over one database of this test's own, closed at teardown. */
export async function openTestRouter(t: Test): Promise<AppRouter> {
  const { url } = await createTestDatabase(t)
  const router = await openRouter<Database>(
    { nodes: [{ name: 'DATABASE_URL', url }], poolMax: CONNECTIONS_MAX, applicationName: 'test' },
    pino({ level: 'silent' }),
  )
  t.teardown(() => router.close())
  return router
}
