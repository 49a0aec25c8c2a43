import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import type { Logger } from '../../logger/logger.ts'
import { valueParsers } from '../value-parsers.ts'

const CONNECT_TIMEOUT_MS = 5_000

/** One connection to a node, for whole transactions and for COPY, which no pool of ours speaks. */
export interface CopyConnection {
  /** @throws whatever PostgreSQL says */
  query<Row>(text: string): Promise<Row[]>
  copyOut(text: string): Readable
  copyIn(text: string): Writable
  /** Also while a statement is under way. */
  close(): Promise<void>
}

/** @throws Error when the node cannot be reached */
export async function openCopyConnection(
  url: string,
  applicationName: string,
  log: Pick<Logger, 'warn'>,
): Promise<CopyConnection> {
  const client = new pg.Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    types: valueParsers,
  })
  // Without a listener the end of a server would be the end of the process; the query under way says it as well.
  client.on('error', (error) => log.warn({ err: error }, 'a database connection was lost'))
  await client.connect()
  return {
    query: async <Row>(text: string) => (await client.query(text)).rows as Row[],
    copyOut: (text) => client.query(copyTo(text)),
    copyIn: (text) => client.query(copyFrom(text)),
    close: () => client.end(),
  }
}

/** Brings the rows of a query on one node into a table of another, in PostgreSQL's own binary form. */
export async function copyRows(
  from: { readonly connection: CopyConnection; readonly query: string },
  to: { readonly connection: CopyConnection; readonly table: string; readonly columns: readonly string[] },
): Promise<void> {
  const columns = to.columns.join(', ')
  const out = from.connection.copyOut(`copy (select ${columns} from (${from.query}) as r) to stdout (format binary)`)
  const into = to.connection.copyIn(`copy ${to.table} (${columns}) from stdin (format binary)`)
  await pipeline(out, into)
}

/**
 * Runs `work` in a transaction of the connection. When it fails, the connection is of no more use but to be closed, for a
 * COPY may be stuck in the middle; that rolls the transaction back.
 *
 * @param begin the words after BEGIN, such as `isolation level repeatable read read only`
 * @throws whatever `work` or the commit throws
 */
export async function inTransaction<T>(connection: CopyConnection, begin: string, work: () => Promise<T>): Promise<T> {
  await connection.query(`begin ${begin}`)
  const result = await work()
  await connection.query('commit')
  return result
}
