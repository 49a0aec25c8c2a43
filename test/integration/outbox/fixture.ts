import { sql, type Kysely } from 'kysely'
import type { Test } from 'tap'
import { Type } from 'typebox'
import { createLogger } from '#platform/logger/logger.ts'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import type { JobEnd, JobMetrics } from '#platform/outbox/job-metrics.ts'
import { postgresTransport, type PostgresTransportOptions } from '#platform/outbox/postgres-transport.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import type { ConsumeOptions, Handler, Job, Transport } from '#platform/outbox/transport.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { createTestDatabase } from '../../support/database.ts'

export const QUEUE = 'work'
/** An event whose body is one number: which of the messages it is. */
export const counted = defineEvent('counted', Type.Object({ n: Type.Integer() }), [QUEUE])

const quiet = createLogger({ process: 'test', level: 'silent' })

export interface TestNode {
  readonly name: string
  readonly url: string
  readonly primary: Kysely<unknown>
}

/** A migrated database of the test's own, as a node; closed at teardown, after the transports. */
export async function openNode(t: Test, name = 'main'): Promise<TestNode> {
  const { url } = await createTestDatabase(t)
  const primary = openPool<unknown>({ url, max: 6, applicationName: 'test' }, quiet)
  t.teardown(() => primary.destroy())
  return { name, url, primary }
}

/** A transport closed at teardown, which retries at once unless told otherwise. */
export function openTransport(t: Test, nodes: readonly TestNode[], options: Partial<PostgresTransportOptions> = {}): Transport {
  const transport = postgresTransport({ nodes, log: quiet, delayMs: () => 0, closeMs: 50, ...options })
  t.teardown(() => transport.close())
  return transport
}

/** Sensible options for a consumer of QUEUE. */
export function consuming(handlers: readonly Handler[], options: Partial<ConsumeOptions> = {}): ConsumeOptions {
  return { queue: QUEUE, handlers, concurrency: 4, deadlineMs: 10_000, ...options }
}

export function handling(handle: (n: number, job: Job) => Promise<void> | void): Handler<typeof counted.schema> {
  return {
    event: counted,
    handle: async ({ n }, job) => handle(n, job),
  }
}

export async function publishCounted(node: TestNode, ...numbers: number[]): Promise<void> {
  await publishEvents(node.primary, numbers.map((n) => message(counted, { n })))
}

export interface OutboxRow {
  n: number
  attempts: number
  claimed: boolean
  dueInMs: number
  cause: string | null
}

export async function outboxRows(node: TestNode): Promise<OutboxRow[]> {
  const { rows } = await sql<OutboxRow>`select (body->>'n')::int as n, attempts, claim_token is not null as claimed,
    (extract(epoch from available_at - now()) * 1000)::float8 as "dueInMs", cause
    from outbox order by id`.execute(node.primary)
  return rows
}

/** Makes every row due, whatever it waits for: time passing, without the waiting. */
export async function makeAllDue(node: TestNode): Promise<void> {
  await sql`update outbox set available_at = now()`.execute(node.primary)
}

/** Metrics that a test can wait on. */
export interface WatchedMetrics extends JobMetrics {
  count(end: JobEnd): number
  /** Settles once `count` deliveries have ended so. */
  reached(end: JobEnd, count: number): Promise<void>
}

export function watchMetrics(): WatchedMetrics {
  const counts = new Map<JobEnd, number>()
  const waiting: { end: JobEnd; count: number; resolve: (value: undefined) => void }[] = []
  const count = (end: JobEnd): number => counts.get(end) ?? 0
  return {
    claimed: () => undefined,
    ran: () => undefined,
    ended(_queue, end, more) {
      counts.set(end, count(end) + more)
      for (const waiter of waiting) if (count(waiter.end) >= waiter.count) waiter.resolve(undefined)
    },
    count,
    async reached(end, wanted) {
      const { promise, resolve } = Promise.withResolvers<undefined>()
      waiting.push({ end, count: wanted, resolve })
      if (count(end) >= wanted) resolve(undefined)
      await promise
    },
  }
}
