import { randomUUID } from 'node:crypto'
import { sql, type QueryExecutorProvider } from 'kysely'
import type { Static, TSchema } from 'typebox'
import { currentTrace } from '../logger/trace.ts'
import { bodyProblem, type EventContract } from './event-contract.ts'

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
 * of the current trace.
 *
 * @throws TypeError when a body breaks its contract; nothing is then inserted
 */
export async function publishEvents(trx: QueryExecutorProvider, messages: readonly OutgoingMessage[]): Promise<void> {
  const rows = messages.flatMap(rowsOf)
  const { requestId } = currentTrace()
  for (let start = 0; start < rows.length; start += INSERT_ROWS_MAX) {
    const batch = JSON.stringify(rows.slice(start, start + INSERT_ROWS_MAX))
    await sql`insert into outbox (message_id, queue, event, body, request_id, available_at)
      select message_id, queue, event, body, ${requestId}::text, now() + delay_ms * interval '1 millisecond'
      from jsonb_to_recordset(${batch}::jsonb)
        as t (message_id uuid, queue text, event text, body jsonb, delay_ms float8)`.execute(trx)
  }
}

function rowsOf({ contract, body, delayMs }: OutgoingMessage): object[] {
  const wrong = bodyProblem(contract, body)
  if (wrong !== undefined) throw new TypeError(`the body of ${contract.name} breaks its contract: ${wrong}`)
  const messageId = randomUUID()
  return contract.queues.map((queue) => ({
    message_id: messageId,
    queue,
    event: contract.name,
    body,
    delay_ms: delayMs,
  }))
}
