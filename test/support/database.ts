import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { Test } from 'tap'
import { SUPERUSER } from '../../scripts/stack/postgres-server.ts'
import { onTeardown } from './teardown.ts'

/** How long connections that were closed may take to be gone from the server. */
const DISCONNECT_DEADLINE_MS = 3000
const POLL_MS = 20

export interface TestDatabase {
  /** A migrated database of this test's own; the role may do there what a host's role may. */
  url: string
}

export interface TestDatabaseOptions {
  /** False for a database without any table, as a host hands over. */
  migrated?: boolean
}

/**
 * Clones the run's migrated template for this test and drops it at teardown. The test fails if somebody is still
 * connected then: open the database first, so that what uses it is closed before (teardowns run last to first).
 * Needs `./scripts/test`, which gives the template in MONOGRAM_TEST_DATABASE_URL; throws without it.
 */
export async function createTestDatabase(t: Test, { migrated = true }: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const template = templateUrl()
  const name = `test_${randomBytes(8).toString('hex')}`
  await onServer(template, async (client) => {
    await client.query(`create database ${name} template ${migrated ? databaseName(template) : 'template0'}`)
  })
  onTeardown(t, async () => {
    await onServer(asSuperuser(template), async (client) => {
      const leaked = await connectionsLeft(client, name)
      await client.query(`drop database ${name} with (force)`)
      refuseLeaks(leaked)
    })
  })
  return { url: withDatabase(template, name) }
}

/** Runs `work` on a connection to the server's maintenance database, which the template's clone must not have. */
async function onServer(template: URL, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: withDatabase(template, 'postgres'), application_name: 'test-support' })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

/** Throws when somebody is connected to the database at `url`, but for us, once those just closed had time to go. */
export async function assertNobodyConnected(url: string): Promise<void> {
  await onServer(new URL(url), async (client) => refuseLeaks(await connectionsLeft(client, databaseName(new URL(url)))))
}

function refuseLeaks(leaked: readonly string[]): void {
  if (leaked.length > 0) throw new Error(`connections left open on the test's database: ${leaked.join('; ')}`)
}

/** What clients of that database are doing, once those that were just closed have had time to go. */
async function connectionsLeft(client: pg.Client, name: string): Promise<string[]> {
  const deadline = performance.now() + DISCONNECT_DEADLINE_MS
  for (;;) {
    const { rows } = await client.query<{ what: string }>(
      `select concat_ws(' ', application_name, state, left(query, 80)) as what from pg_stat_activity
        where datname = $1 and backend_type = 'client backend'`,
      [name],
    )
    if (rows.length === 0 || performance.now() > deadline) return rows.map((row) => row.what)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

function templateUrl(): URL {
  const text = process.env.MONOGRAM_TEST_DATABASE_URL
  if (text === undefined) throw new Error('This test needs a database: run it with ./scripts/test <file>.')
  return new URL(text)
}

/** Whoever drops a database ends an autovacuum that has begun there, which only a superuser may. */
function asSuperuser(url: URL): URL {
  const other = new URL(url)
  // As `initialise` makes it: the superuser has the role's password.
  other.username = SUPERUSER
  return other
}

function databaseName(url: URL): string {
  return url.pathname.slice(1)
}

function withDatabase(url: URL, name: string): string {
  const other = new URL(url)
  other.pathname = `/${name}`
  return other.href
}
