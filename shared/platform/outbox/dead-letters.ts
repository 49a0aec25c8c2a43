import { sql, type QueryExecutorProvider, type RawBuilder } from 'kysely'

/** A message that was given up on. */
export interface DeadLetter {
  /** Unique on its node. */
  readonly id: bigint
  readonly messageId: string
  readonly queue: string
  readonly event: string
  readonly body: unknown
  readonly requestId: string | null
  readonly attempts: number
  readonly cause: string
  readonly detail: string
  readonly enqueuedAt: Date
  readonly failedAt: Date
}

/** Letters of one statement that moves them to another node. */
const MOVE_LETTERS = 500

/** Which dead letters; what is absent does not restrict. */
export interface DeadLetterFilter {
  readonly ids?: readonly bigint[]
  readonly queue?: string
  readonly cause?: string
  /** Those that failed before this moment. */
  readonly before?: Date
}

/**
 * A page of a node's dead letters, newest first.
 *
 * @param page at most `limit` letters; `below` is the id of the last one of the page before
 */
export async function listDeadLetters(
  db: QueryExecutorProvider,
  filter: DeadLetterFilter,
  page: { limit: number; below?: bigint },
): Promise<DeadLetter[]> {
  const below = page.below === undefined ? sql`true` : sql`id < ${page.below}`
  const { rows } = await sql<DeadLetter>`
    select id, message_id as "messageId", queue, event, body, request_id as "requestId", attempts, cause, detail,
      enqueued_at as "enqueuedAt", failed_at as "failedAt"
    from dead_letters where ${matches(filter)} and ${below} order by id desc limit ${page.limit}`.execute(db)
  return rows
}

/**
 * Moves dead letters back to their queues, oldest first, with all their attempts anew and the same message ids.
 *
 * @returns how many, at most `limit`
 */
export async function replayDeadLetters(
  db: QueryExecutorProvider,
  filter: DeadLetterFilter,
  limit: number,
): Promise<number> {
  const result = await sql`
    with replayed as (${removal(filter, limit)} returning *)
    insert into outbox (message_id, queue, event, body, request_id, enqueued_at)
    select message_id, queue, event, body, request_id, enqueued_at from replayed order by id`.execute(db)
  return Number(result.numAffectedRows ?? 0n)
}

/** Deletes dead letters for good, oldest first; gives how many, at most `limit`. */
export async function discardDeadLetters(
  db: QueryExecutorProvider,
  filter: DeadLetterFilter,
  limit: number,
): Promise<number> {
  const result = await removal(filter, limit).execute(db)
  return Number(result.numAffectedRows ?? 0n)
}

/**
 * Moves all dead letters of a node to another, oldest first, where they get new ids. After whatever end it goes on when it
 * runs again; only of a message that came without an id there may then be two letters.
 *
 * @returns how many
 */
export async function moveDeadLetters(from: QueryExecutorProvider, to: QueryExecutorProvider): Promise<number> {
  for (let moved = 0; ; ) {
    const { rows } = await sql<{ id: bigint; letter: string }>`
      select id, (to_jsonb(d) - 'id')::text as letter from dead_letters d order by id limit ${MOVE_LETTERS}`.execute(from)
    if (rows.length === 0) return moved
    const letters = sql`unnest(${rows.map(({ letter }) => letter)}::jsonb[]) with ordinality as given (letter, place)`
    await sql`
      insert into dead_letters (message_id, queue, event, body, request_id, enqueued_at, attempts, cause, detail, failed_at)
      select message_id, queue, event, body, request_id, enqueued_at, attempts, cause, detail, failed_at
      from ${letters}, jsonb_populate_record(null::dead_letters, letter) order by place
      on conflict do nothing`.execute(to)
    await sql`delete from dead_letters where id = any(${rows.map(({ id }) => id)}::bigint[])`.execute(from)
    moved += rows.length
  }
}

/** Two operators at once take different letters. */
function removal(filter: DeadLetterFilter, limit: number): RawBuilder<unknown> {
  return sql`delete from dead_letters where id = any(array(
    select id from dead_letters where ${matches(filter)} order by id limit ${limit} for update skip locked))`
}

function matches({ ids, queue, cause, before }: DeadLetterFilter): RawBuilder<unknown> {
  const conditions = [
    ids && sql`id = any(${ids}::bigint[])`,
    queue !== undefined && sql`queue = ${queue}`,
    cause !== undefined && sql`cause = ${cause}`,
    before && sql`failed_at < ${before}`,
  ].filter((condition) => condition !== undefined && condition !== false)
  return conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `)
}
