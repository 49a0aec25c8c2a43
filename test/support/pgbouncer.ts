import type { Test } from 'tap'
import { startPgbouncer } from '../../scripts/stack/pgbouncer.ts'
import { CHECKOUT } from './checkout-copy.ts'
import { eventually } from './eventually.ts'
import { endWithUs } from './guard.ts'
import { onTeardown } from './teardown.ts'
import { runSql } from './tier-server.ts'

/** A PgBouncer of a test's own, in transaction mode. */
export interface TestPgbouncer {
  readonly port: number
  readonly pid: number
  /** The URL of the database of that name. */
  url(name: string): string
  /** Puts another server behind a name, as after a failover; resolves when new transactions go there. */
  point(name: string, serverUrl: string): Promise<void>
  /** Rows of a command of its console, such as `show pools`. */
  show(command: string): Promise<Record<string, unknown>[]>
}

const DISCONNECT_DEADLINE_MS = 3_000

/**
 * Starts a PgBouncer before databases, by the names that clients use; stopped at teardown, which fails the test when a
 * client is still connected then.
 */
export async function startTestPgbouncer(t: Test, directory: string, servers: ReadonlyMap<string, string>): Promise<TestPgbouncer> {
  const databases = new Map(servers)
  const pooler = await startPgbouncer({ checkout: CHECKOUT, directory, databases })
  const guard = endWithUs([pooler.pid], 'KILL')
  const show = (command: string): Promise<Record<string, unknown>[]> => runSql(pooler.consoleUrl, command)
  onTeardown(t, async () => {
    try {
      await eventually('every client of PgBouncer is gone', async () => {
        const clients = await show('show clients')
        return clients.every(({ database }) => database === 'pgbouncer') ? true : undefined
      }, DISCONNECT_DEADLINE_MS)
    } finally {
      guard.release()
      await pooler.stop()
    }
  })
  return {
    port: pooler.port,
    pid: pooler.pid,
    url: pooler.url,
    async point(name, serverUrl) {
      databases.set(name, serverUrl)
      await pooler.setDatabases(databases)
      const { port } = new URL(serverUrl)
      await eventually(`PgBouncer sends ${name} to port ${port}`, async () => {
        const found = (await show('show databases')).find((row) => row.name === name)
        return String(found?.port) === port ? true : undefined
      })
    },
    show,
  }
}
