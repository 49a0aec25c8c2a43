import pg from 'pg'
import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely'
import type { Logger } from '../logger/logger.ts'
import { countStatement } from '../logger/trace.ts'
import { statementName } from './compiled-statement.ts'
import { sqlstateOf } from './database-errors.ts'
import { valueParsers } from './value-parsers.ts'

const CONNECT_TIMEOUT_MS = 5_000
const IDLE_TIMEOUT_MS = 30_000
/** A guard against a dead server behind a live socket; the door sets the server's own, shorter bound. */
const QUERY_TIMEOUT_MS = 30_000
const KEEP_ALIVE_DELAY_MS = 10_000
/** What statements under way may still take when a pool is closed: whoever asked for them has been given up by then. */
const END_MS = 2_000
/** pg's whole message of a query that timed out; it has no code. */
const READ_TIMEOUT = 'Query read timeout'
/** A prepared statement that is not there, or already is: a pooler has put another connection behind this one. */
const FOREIGN_STATEMENT_SQLSTATES = new Set(['26000', '42P05'])
/** Said among others of a prepared statement whose result a migration has given another type. */
const FEATURE_NOT_SUPPORTED_SQLSTATE = '0A000'

export interface PoolOptions {
  readonly url: string
  /** Connections at most. */
  readonly max: number
  readonly applicationName: string
  /** How long a statement may go unanswered before its connection is given up. */
  readonly queryTimeoutMs?: number
  /** False behind a pooler that does not keep prepared statements, such as PgBouncer before 1.21; true by default. */
  readonly preparedStatements?: boolean
}

/**
 * A pool of one server, as a kysely handle. Nothing is set at start-up that PgBouncer in transaction mode rejects.
 * A backend that dies, or does not answer in time, takes its connection out of the pool and never the process down.
 */
export function openPool<DB>(
  { url, max, applicationName, queryTimeoutMs = QUERY_TIMEOUT_MS, preparedStatements = true }: PoolOptions,
  log: Logger,
): Kysely<DB> {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS,
    types: valueParsers,
  })
  const onError = (error: Error): void => {
    // The pool's copy of an error carries the whole client, down to the timers of its socket.
    if ('client' in error) delete error.client
    log.warn({ err: error }, 'a database connection was lost')
  }
  pool.on('error', onError)
  // pg emits the error of a checked-out client on the client itself, where no listener means the end of the process.
  pool.on('connect', (client) => client.on('error', onError))
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool: kyselyPool(pool, { preparedStatements, log }) }) })
}

/**
 * What kysely sees of a pool. Compiled statements go by their names.
 *
 * pg gives a query up after its timeout and hands the connection back while the server still works on it, or is gone
 * behind a silent network: whoever has it next would wait in line behind that. Such a connection is closed instead,
 * and so is one whose prepared statement is of no use any more, and one whose server has said that it ends the session:
 * pg notices only when the socket closes, and until then somebody else may have it.
 */
function kyselyPool(
  pool: pg.Pool,
  { preparedStatements, log }: { readonly preparedStatements: boolean; readonly log: Logger },
): PostgresPool {
  const inUse = new Set<pg.PoolClient>()

  return {
    async connect(): Promise<PostgresPoolClient> {
      const client = await pool.connect()
      inUse.add(client)
      let timedOut: Error | undefined
      let isSpoilt = false
      const query = async (text: string, parameters: readonly unknown[]) => {
        if (timedOut !== undefined) throw timedOut
        countStatement()
        const name = preparedStatements ? statementName(text) : undefined
        const values = [...parameters]
        try {
          return await (name === undefined ? client.query(text, values) : client.query({ name, text, values }))
        } catch (error) {
          if (error instanceof Error && error.message === READ_TIMEOUT) timedOut = error
          isSpoilt ||= isSessionOver(error) || (name !== undefined && isStatementSpoilt(error, log))
          throw error
        }
      }
      return {
        // The form with a cursor is asked for only by whoever configures one.
        query: query as unknown as PostgresPoolClient['query'],
        release(discard?: boolean) {
          if (inUse.delete(client)) client.release(discard === true || isSpoilt || timedOut !== undefined)
        },
      }
    },
    /** pg would wait for the last statement, however long that waits for a lock of somebody's. */
    async end() {
      const ended = pool.end()
      const timer = setTimeout(() => {
        for (const client of inUse) client.release(true)
        inUse.clear()
      }, END_MS)
      await ended.finally(() => clearTimeout(timer))
    },
    options: pool.options,
  }
}

/** True when the server ends the session with this error, as when a backend is terminated. */
function isSessionOver(error: unknown): boolean {
  return error instanceof Error && 'severity' in error && (error.severity === 'FATAL' || error.severity === 'PANIC')
}

/** True when the prepared statement that failed so would fail on this connection for ever. */
function isStatementSpoilt(error: unknown, log: Logger): boolean {
  const state = sqlstateOf(error)
  if (state !== undefined && FOREIGN_STATEMENT_SQLSTATES.has(state)) {
    log.error({ err: error }, 'a pooler does not keep prepared statements: set DATABASE_PREPARED_STATEMENTS=off')
    return true
  }
  return state === FEATURE_NOT_SUPPORTED_SQLSTATE
}
