import pg from 'pg'
import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely'
import type { Logger } from '../logger/logger.ts'
import { countStatement } from '../logger/trace.ts'

const CONNECT_TIMEOUT_MS = 5_000
const IDLE_TIMEOUT_MS = 30_000
/** A guard against a dead server behind a live socket; the door sets the server's own, shorter bound. */
const QUERY_TIMEOUT_MS = 30_000
const KEEP_ALIVE_DELAY_MS = 10_000
/** pg's whole message of a query that timed out; it has no code. */
const READ_TIMEOUT = 'Query read timeout'

const INT8_OID = 20
const INT8_ARRAY_OID = 1016

type TypeParser = (text: string) => unknown
const builtInParser: (oid: number, format?: 'text' | 'binary') => TypeParser = pg.types.getTypeParser

/** A 64-bit integer is never a JavaScript number: int8 arrives as bigint, int8[] as bigint[]. */
const types: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary'): TypeParser {
    if (oid === INT8_OID) return BigInt
    if (oid === INT8_ARRAY_OID) return parseInt8Array
    return builtInParser(oid, format)
  },
}

function parseInt8Array(text: string): bigint[] {
  return text === '{}' ? [] : text.slice(1, -1).split(',').map(BigInt)
}

export interface PoolOptions {
  readonly url: string
  /** Connections at most. */
  readonly max: number
  readonly applicationName: string
  /** How long a statement may go unanswered before its connection is given up. */
  readonly queryTimeoutMs?: number
}

/**
 * A pool of one server, as a kysely handle. Nothing is set at start-up that PgBouncer in transaction mode rejects.
 * A backend that dies, or does not answer in time, takes its connection out of the pool and never the process down.
 */
export function openPool<DB>(
  { url, max, applicationName, queryTimeoutMs = QUERY_TIMEOUT_MS }: PoolOptions,
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
    types,
  })
  const onError = (error: Error): void => log.warn({ err: error }, 'a database connection was lost')
  pool.on('error', onError)
  // pg emits the error of a checked-out client on the client itself, where no listener means the end of the process.
  pool.on('connect', (client) => client.on('error', onError))
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool: dropTimedOut(pool) }) })
}

/**
 * pg gives a query up after its timeout and hands the connection back while the server still works on it, or is gone
 * behind a silent network: whoever has it next would wait in line behind that. Such a connection is closed instead.
 */
function dropTimedOut(pool: pg.Pool): PostgresPool {
  return {
    async connect(): Promise<PostgresPoolClient> {
      const client = await pool.connect()
      let timedOut: Error | undefined
      const query = async (text: string, parameters: readonly unknown[]) => {
        if (timedOut !== undefined) throw timedOut
        countStatement()
        try {
          return await client.query(text, [...parameters])
        } catch (error) {
          if (error instanceof Error && error.message === READ_TIMEOUT) timedOut = error
          throw error
        }
      }
      return {
        // The form with a cursor is asked for only by whoever configures one.
        query: query as unknown as PostgresPoolClient['query'],
        release: (discard?: boolean) => client.release(discard === true || timedOut !== undefined),
      }
    },
    end: () => pool.end(),
    options: pool.options,
  }
}
