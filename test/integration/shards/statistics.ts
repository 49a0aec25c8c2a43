import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import type { Db } from '#domain/database.ts'

/** A server tells its statistics of what a connection has written after a second, or when it is closed. */
const CLOSE_MS = 5_000

/** Has the server count exactly what is in a database. Nobody may be using it meanwhile. */
export async function analyse(db: Db): Promise<void> {
  await db.connection().execute(async (connection) => {
    // What others have written would be added to what is found now.
    await sql`select pg_terminate_backend(pid, ${CLOSE_MS}) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`.execute(connection)
    await sql`select pg_stat_force_next_flush()`.execute(connection)
    await sql`analyze`.execute(connection)
  })
}

/**
 * Writes one row and deletes it, and has the server count that at once.
 *
 * @returns how many writes that were
 */
export async function writeAndTell(db: Db): Promise<number> {
  await db.transaction().execute(async (trx) => {
    const id = randomUUID()
    await sql`insert into outbox (message_id, queue, event, body) values (${id}, 'fanout', 'photo.published', '{}')`.execute(trx)
    await sql`delete from outbox where message_id = ${id}`.execute(trx)
    await sql`select pg_stat_force_next_flush()`.execute(trx)
  })
  return 2
}
