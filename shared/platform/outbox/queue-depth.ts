import { sql, type QueryExecutorProvider } from 'kysely'

/** The state of one queue on one node. */
export interface QueueDepth {
  readonly queue: string
  /** Rows that a worker could take now. */
  readonly due: number
  /** Rows that wait for a later moment: delays and backoff. */
  readonly delayed: number
  /** Rows that a worker holds. */
  readonly claimed: number
  /** Seconds since the row that is due longest came due; 0 when none is. */
  readonly oldestDueSeconds: number
}

/** Counts a node's dead letters by queue, for a gauge. Queues without any are left out. */
export async function deadLetterCounts(db: QueryExecutorProvider): Promise<{ queue: string; letters: number }[]> {
  const { rows } = await sql<{ queue: string; letters: number }>`
    select queue, count(*)::int as letters from dead_letters group by queue order by queue`.execute(db)
  return rows
}

/** Counts a node's outbox by queue, for gauges. Queues without rows are left out. */
export async function queueDepths(db: QueryExecutorProvider): Promise<QueueDepth[]> {
  const { rows } = await sql<QueueDepth>`
    select queue,
      count(*) filter (where available_at <= now())::int as due,
      count(*) filter (where available_at > now() and claim_token is null)::int as delayed,
      count(*) filter (where available_at > now() and claim_token is not null)::int as claimed,
      coalesce(extract(epoch from now() - min(available_at) filter (where available_at <= now())), 0)::float8
        as "oldestDueSeconds"
    from outbox group by queue order by queue`.execute(db)
  return rows
}
