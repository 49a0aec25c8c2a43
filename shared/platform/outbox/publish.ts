import { randomUUID } from 'node:crypto'
import { sql, type QueryExecutorProvider } from 'kysely'
import type { Static, TSchema } from 'typebox'
import { currentTrace } from '../logger/trace.ts'
import { bodyProblem, type EventContract } from './event-contract.ts'
import { handoffOf, type Handoff, type WrittenRow } from './handoff.ts'

export interface PublishOptions {
  /** Milliseconds after the commit before which no worker takes the message. */
  readonly delayMs?: number
}

/** One message of a batch; make it with `message`, which checks the body's type against the contract. */
export interface OutgoingMessage {
  readonly contract: EventContract
  readonly body: unknown
  readonly delayMs: number
}

/** Rows of one INSERT; a longer batch is cut. */
const INSERT_ROWS_MAX = 2_000

/** Pairs a contract with a body of its type, for `publishEvents`. */
export function message<S extends TSchema>(
  contract: EventContract<S>,
  body: Static<S>,
  options: PublishOptions = {},
): OutgoingMessage {
  return { contract, body, delayMs: options.delayMs ?? 0 }
}

/**
 * Adds a message to the outbox of the caller's transaction, one row per queue of the event: it is sent if and
 * only if the transaction commits.
 *
 * @param trx the open transaction of the change that the event tells of, on the node of that change
 * @throws TypeError when the body breaks its contract
 */
export async function publishEvent<S extends TSchema>(
  trx: QueryExecutorProvider,
  contract: EventContract<S>,
  body: Static<S>,
  options: PublishOptions = {},
): Promise<void> {
  await publishEvents(trx, [message(contract, body, options)])
}

/**
 * Adds many messages in one statement (per 2,000 rows). A message's rows share its id; all carry the request id
 * of the current trace. In a transaction that a transport attends, those that it can send at once are written as claimed.
 *
 * @throws TypeError when a body breaks its contract; nothing is then inserted
 */
export async function publishEvents(trx: QueryExecutorProvider, messages: readonly OutgoingMessage[]): Promise<void> {
  const handoff = handoffOf(trx)
  const rows = messages.flatMap((message) => rowsOf(message, handoff))
  const { requestId } = currentTrace()
  for (let start = 0; start < rows.length; start += INSERT_ROWS_MAX) {
    const batch = rows.slice(start, start + INSERT_ROWS_MAX)
    // From now, and not from when the transaction began: it may have waited at its shard's door for longer than a claim lasts.
    const { rows: inserted } = await sql<InsertedRow>`
      insert into outbox (message_id, queue, event, body, request_id, available_at, claim_token)
      select message_id, queue, event, body, ${requestId}::text, statement_timestamp() + delay_ms * interval '1 millisecond', token
      from jsonb_to_recordset(${JSON.stringify(batch)}::jsonb)
        as t (message_id uuid, queue text, event text, body jsonb, delay_ms float8, token uuid)
      returning id, message_id, queue, enqueued_at`.execute(trx)
    if (handoff !== undefined) handOver(batch, inserted, requestId, handoff)
  }
}

interface OutgoingRow {
  readonly message_id: string
  readonly queue: string
  readonly event: string
  readonly body: unknown
  readonly delay_ms: number
  /** Of this process's claim, if it has one. */
  readonly token: string | null
}

interface InsertedRow {
  readonly id: bigint
  readonly message_id: string
  readonly queue: string
  readonly enqueued_at: Date
}

/** Tells the handoff of what was inserted; PostgreSQL does not promise to return rows in the order given. */
function handOver(rows: readonly OutgoingRow[], inserted: readonly InsertedRow[], requestId: string | null, handoff: Handoff): void {
  const keyOf = ({ message_id, queue }: { message_id: string; queue: string }): string => `${message_id} ${queue}`
  const claimed = new Map(rows.flatMap((row) => (row.token === null ? [] : [[keyOf(row), row] as const])))
  if (claimed.size > 0) {
    handoff.claimed(
      inserted.flatMap((row): WrittenRow[] => {
        const { message_id: messageId, queue, event, body } = claimed.get(keyOf(row)) ?? {}
        if (messageId === undefined || queue === undefined || event === undefined) return []
        return [{ id: row.id, messageId, queue, event, body: JSON.stringify(body), requestId, enqueuedAt: row.enqueued_at }]
      }),
    )
  }
  if (claimed.size < rows.length) handoff.due()
}

function rowsOf({ contract, body, delayMs }: OutgoingMessage, handoff: Handoff | undefined): OutgoingRow[] {
  const wrong = bodyProblem(contract, body)
  if (wrong !== undefined) throw new TypeError(`the body of ${contract.name} breaks its contract: ${wrong}`)
  const messageId = randomUUID()
  return contract.queues.map((queue) => {
    const claim = delayMs > 0 ? null : (handoff?.claim(queue) ?? null)
    return { message_id: messageId, queue, event: contract.name, body, delay_ms: claim?.visibilityMs ?? delayMs, token: claim?.token ?? null }
  })
}
