import pg from 'pg'
import type { Test } from 'tap'
import { removeServer, startPrimary, startStandby } from '../../scripts/stack/replicated-postgres.ts'
import type { Standby } from '../../scripts/stack/replicated-postgres.ts'
import type { PostgresServer, Settings } from '../../scripts/stack/postgres-server.ts'
import { CHECKOUT } from './checkout-copy.ts'
import { assertNobodyConnected } from './database.ts'
import { eventually } from './eventually.ts'
import { endWithUs } from './guard.ts'
import { onTeardown } from './teardown.ts'

/** A PostgreSQL of a test's tier. */
export interface TestServer {
  /** The variable of the tier's environment that holds its URL. */
  readonly name: string
  /** The URL of its database, past any pooler. */
  readonly url: string
  /** The same for a superuser. */
  readonly superuserUrl: string
  /** Runs one statement as a superuser and gives its rows. */
  sql<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>
  /** The number of its first process, to freeze it with or to see it gone; undefined when it does not run. */
  pid: () => Promise<number | undefined>
  /** Ends it by SIGKILL, as a machine that loses power. */
  kill(): Promise<void>
  /** Stops it in an orderly way. */
  stop(): Promise<void>
  /** Starts it again on its port, after `kill` or `stop`, with its data. */
  start(): Promise<void>
}

export interface TestStandby extends TestServer {
  /** Makes a primary of it; its old one must not come back then. */
  promote(): Promise<void>
  /** It goes on receiving and answering, and replays nothing until `resumeReplay`. */
  pauseReplay(): Promise<void>
  resumeReplay(): Promise<void>
  /** From about now on changes are replayed so long after they were made. */
  delayReplay(ms: number): Promise<void>
  /** Resolves when it has replayed all that its primary has flushed until now. */
  caughtUp(): Promise<void>
}

export interface TestServerOptions {
  name: string
  /** A directory that does not exist yet; its last name is unique in the checkout. */
  directory: string
  settings: Settings
}

const DATABASE = 'monogram'
const POLL_MS = 20

/** Starts a primary for a test, with one empty database. It is stopped and removed at teardown; a leak fails the test. */
export async function startTestPrimary(t: Test, { name, directory, settings }: TestServerOptions): Promise<TestServer & { server: PostgresServer }> {
  const server = await startPrimary({ checkout: CHECKOUT, directory, databases: [DATABASE], durable: false, settings })
  return { ...(await handle(t, name, directory, server)), server }
}

/** Starts a streaming standby of a primary, with all that it has now. */
export async function startTestStandby(
  t: Test,
  { name, directory, settings, primary, applyDelayMs }: TestServerOptions & { primary: TestServer & { server: PostgresServer }; applyDelayMs: number },
): Promise<TestStandby> {
  const server: Standby = await startStandby({
    checkout: CHECKOUT,
    directory,
    durable: false,
    settings,
    name: name.toLowerCase(),
    primary: primary.server,
    applyDelayMs,
  })
  const handled = await handle(t, name, directory, server)
  const common: TestServer = { ...handled, sql: (text, values) => againAfterConflict(() => handled.sql(text, values)) }
  return {
    ...common,
    promote: server.promote,
    async pauseReplay() {
      await common.sql('select pg_wal_replay_pause()')
      await eventually(`${name} replays no more`, async () => {
        const [row] = await common.sql<{ state: string }>('select pg_get_wal_replay_pause_state() as state')
        return row?.state === 'paused' ? true : undefined
      })
    },
    async resumeReplay() {
      await common.sql('select pg_wal_replay_resume()')
    },
    async delayReplay(ms) {
      await common.sql(`alter system set recovery_min_apply_delay = '${ms}ms'`)
      await common.sql('select pg_reload_conf()')
    },
    async caughtUp() {
      const [flushed] = await primary.sql<{ lsn: string }>('select pg_current_wal_flush_lsn() as lsn')
      await eventually(`${name} has caught up`, async () => {
        const [row] = await common.sql<{ done: boolean }>('select pg_last_wal_replay_lsn() >= $1 as done', [flushed?.lsn])
        return row?.done === true ? true : undefined
      })
    },
  }
}

async function handle(t: Test, name: string, directory: string, server: PostgresServer): Promise<TestServer> {
  const url = server.url(DATABASE)
  let guard = await guardOf(server)
  onTeardown(t, async () => {
    const pid = await server.pid()
    try {
      if (pid !== undefined) await assertNobodyConnected(server.superuserUrl(DATABASE))
    } finally {
      guard.release()
      // An immediate end: nothing of it is wanted any more.
      if (pid !== undefined) process.kill(pid, 'SIGQUIT')
      while ((await server.pid()) !== undefined) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
      await removeServer(CHECKOUT, directory)
    }
  })
  return {
    name,
    url,
    superuserUrl: server.superuserUrl(DATABASE),
    sql: (text, values) => runSql(server.superuserUrl(DATABASE), text, values),
    pid: server.pid,
    kill: server.kill,
    stop: server.stop,
    async start() {
      await server.start()
      guard.release()
      guard = await guardOf(server)
    },
  }
}

/** What a standby replays after a long rest is now and then in the way of a statement, which then may be run again. */
async function againAfterConflict<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run()
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('conflict with recovery'))) throw error
    }
  }
}

/** Runs one statement on a connection of its own. */
export async function runSql<Row extends pg.QueryResultRow>(url: string, text: string, values: readonly unknown[] = []): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'test-support' })
  // A server that ends the connection says so twice; the statement rejects with it.
  client.on('error', () => undefined)
  await client.connect()
  try {
    // Without values a statement goes as plain text, which is all that PgBouncer's console takes.
    return (await (values.length === 0 ? client.query<Row>(text) : client.query<Row>(text, [...values]))).rows
  } finally {
    await client.end()
  }
}

async function guardOf(server: PostgresServer): Promise<ReturnType<typeof endWithUs>> {
  const pid = await server.pid()
  if (pid === undefined) throw new Error('A server ended right after its start.')
  return endWithUs([pid], 'QUIT')
}
