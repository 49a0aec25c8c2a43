import pg from 'pg'
import { Kysely, PostgresDialect } from 'kysely'
import type { Logger } from '../logger/logger.ts'

const CONNECT_TIMEOUT_MS = 5_000
const IDLE_TIMEOUT_MS = 30_000
/** A guard against a dead server behind a live socket; the door sets the server's own, shorter bound. */
const QUERY_TIMEOUT_MS = 30_000
const KEEP_ALIVE_DELAY_MS = 10_000

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

/**
 * A pool of one server, as a kysely handle. Nothing is set at start-up that PgBouncer in transaction mode rejects.
 * A backend that dies takes its connection out of the pool and never the process down.
 */
export function openPool<DB>(
  options: { url: string; max: number; applicationName: string },
  log: Logger,
): Kysely<DB> {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.max,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS,
    types,
  })
  const onError = (error: Error): void => log.warn({ err: error }, 'a database connection was lost')
  pool.on('error', onError)
  // pg emits the error of a checked-out client on the client itself, where no listener means the end of the process.
  pool.on('connect', (client) => client.on('error', onError))
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool }) })
}
