import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { connectionAdvice } from './connection-advice.ts'

/** What a server, or the pooler before it, says of itself. */
export interface ServerFacts {
  /** A pooler answers in the server's place: connections to it are not connections of the server. */
  readonly isPooled: boolean
  /** A statement that was prepared under a name is found again in the next transaction. */
  readonly keepsPreparedStatements: boolean
  /** Connections that our role may open to the server. */
  readonly connectionsMax: number
}

interface LimitRow {
  pid: number
  connections_max: number
}

const DEADLINE_MS = 5_000
/** The bounds of the server, of our role and of our database; -1 is none. */
const LIMITS = `
  select pg_backend_pid() as pid, least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true)::int, 0),
    nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1)) as connections_max
  from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()`

/**
 * Asks one server on a connection of its own.
 *
 * @throws Error that names the server and, where it is known, the setting that helps
 */
export async function probeServer({ name, url }: { readonly name: string; readonly url: string }): Promise<ServerFacts> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'monogram probe',
    connectionTimeoutMillis: DEADLINE_MS,
    query_timeout: DEADLINE_MS,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    const [limits] = (await client.query<LimitRow>(LIMITS)).rows
    if (limits === undefined) throw new Error('it does not know our role or database')
    // A pooler gives its clients numbers of its own to cancel by.
    const isPooled = (client as unknown as { readonly processID: number | null }).processID !== limits.pid
    return {
      isPooled,
      keepsPreparedStatements: !isPooled || (await renamesStatements(client)),
      connectionsMax: limits.connections_max,
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message || error.name : String(error)
    const advice = connectionAdvice(error)
    throw new Error(`${name} cannot be used: ${reason}${advice === null ? '' : `. ${advice}`}`, { cause: error })
  } finally {
    await client.end().catch(() => undefined)
  }
}

/**
 * Whether the pooler keeps account of prepared statements, as PgBouncer does from 1.21: it then has names of its own for
 * them. One that passes ours on to whichever connection is free does not know where they are.
 */
async function renamesStatements(client: pg.Client): Promise<boolean> {
  const name = `probe_${randomBytes(8).toString('hex')}`
  // In one transaction, so that it is one connection of the server whatever the pooler does.
  await client.query('begin')
  try {
    const { rows } = await client.query({ name, text: 'select name from pg_prepared_statements where name = $1', values: [name] })
    if (rows.length === 0) return true
    await client.query(`deallocate ${name}`)
    return false
  } catch {
    return false
  } finally {
    await client.query('rollback')
  }
}
