import { setTimeout as sleep } from 'node:timers/promises'
import { sql, type QueryExecutorProvider } from 'kysely'
import type { Logger } from '../logger/logger.ts'
import type { OutboxNode } from '../outbox/postgres-consumer.ts'
import type { Broker } from './broker.ts'
import { fromMessage, type WireMessage } from './message-form.ts'
import { subscribe, type Session } from './subscription.ts'
import { DEAD_QUEUE } from './topology.ts'

/** Moves what arrives in the dead queue into the dead letters of the node that it came from. */
export interface Burial {
  /** Settles when the dead queue is empty and all of it is in the tables: for tests. */
  drained(): Promise<void>
  close(): Promise<void>
}

const PREFETCH_MESSAGES = 50
const RETRY_MS = 1_000
const DRAIN_POLL_MS = 20

/**
 * Starts burying. Of all processes that do, the broker lets one work at a time (a single active consumer), so that a
 * letter delivered twice is found by the second look.
 *
 * @param nodes a letter from a node that is not among them goes to the first
 */
export function startBurial(broker: Broker, nodes: readonly OutboxNode[], log: Logger): Burial {
  let isClosed = false
  const subscription = subscribe({
    link: broker.consuming(),
    prepare: (again) => broker.prepare(again),
    queue: DEAD_QUEUE,
    prefetch: PREFETCH_MESSAGES,
    onMessage: (message, session) => void bury(fromMessage(message).wire, session, message.deliveryTag),
    log,
  })

  async function bury(letter: WireMessage, session: Session, tag: number): Promise<void> {
    const node = nodes.find(({ name }) => name === letter.node) ?? nodes[0]
    while (!session.ended.aborted && !isClosed && node !== undefined) {
      try {
        await insertLetter(node.primary, letter)
        session.ack(tag)
        return
      } catch (error) {
        log.warn({ err: error, node: node.name, messageId: letter.messageId }, 'could not keep a dead letter; trying again')
        await sleep(RETRY_MS)
      }
    }
  }

  async function isDrained(): Promise<boolean> {
    const { session } = subscription
    if (session === undefined || session.unsettled > 0) return false
    for (let look = 0; look < 2; look++) {
      const { messageCount } = await session.channel.queueDeclare({ queue: DEAD_QUEUE, passive: true })
      if (messageCount > 0) return false
    }
    return session.unsettled === 0
  }

  return {
    async drained() {
      while (!(await isDrained().catch(() => false))) await sleep(DRAIN_POLL_MS)
    },
    async close() {
      isClosed = true
      await subscription.close()
    },
  }
}

/** What is said of a message that the broker gave up by itself, at its delivery limit. */
const BY_BROKER = { cause: 'delivery_limit', detail: 'the broker delivered it too often without an answer' }
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const NO_ID = '00000000-0000-0000-0000-000000000000'

/** A letter that is there already, by id and queue, is not added again. */
async function insertLetter(db: QueryExecutorProvider, letter: WireMessage): Promise<void> {
  const { queue, event, requestId, enqueuedAt } = letter
  const { cause, detail } = letter.failure ?? BY_BROKER
  const messageId = UUID.test(letter.messageId) ? letter.messageId : NO_ID
  await sql`insert into dead_letters (message_id, queue, event, body, request_id, enqueued_at, attempts, cause, detail)
    values (${messageId}::uuid, ${queue}, ${event}, ${jsonOf(letter.body)}::jsonb, ${requestId}, ${enqueuedAt},
      ${letter.attempts}::smallint, ${cause}, ${detail})
    on conflict do nothing`.execute(db)
}

/** The body as PostgreSQL can keep it; what is not JSON, or holds a NUL, as a string of its characters. */
function jsonOf(body: Buffer): string {
  const text = body.toString()
  try {
    JSON.parse(text)
    if (!text.includes('\\u0000')) return text
  } catch {
    // Told below.
  }
  return JSON.stringify(text.replaceAll('\0', '').replaceAll('\\u0000', ''))
}
