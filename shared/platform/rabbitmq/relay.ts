import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../logger/logger.ts'
import { deleteClaims, type ClaimKey } from '../outbox/claims.ts'
import type { OutboxNode } from '../outbox/postgres-consumer.ts'
import { attendTransaction } from '../outbox/handoff.ts'
import { createPulse } from '../outbox/pulse.ts'
import type { WireMessage } from './message-form.ts'
import type { Publisher } from './publisher.ts'
import { claimForRelay, releaseToRelay, type RelayRow } from './relay-rows.ts'
import { WORK_EXCHANGE } from './topology.ts'

/** Brings the rows of one node's outbox to the broker. */
export interface Relay {
  /** See `Transport.attend`, for a transaction on this node. */
  attend(trx: object): () => void
  /** Rows were committed: looks at once. Never waits. */
  wake(): void
  /** Claims no more, waits (up to a bound) for what is under way, and gives back the rest. */
  close(): Promise<void>
}

export interface RelayOptions {
  readonly publisher: Publisher
  readonly queues: readonly string[]
  readonly publishDeadlineMs: number
  /** Told of a message that no queue takes; the row is tried again after `unroutableRetryMs`. */
  readonly onUnroutable: () => void
  readonly unroutableRetryMs: number
  readonly log: Logger
}

/** Claimed rows in memory at once, neither deleted nor given back: no more are claimed. */
const HELD_ROWS_MAX = 3_000
/** The same: no more are written as claimed. They were in memory before, and a burst of them needs no look at the outbox. */
const WRITTEN_ROWS_MAX = 10_000
/** Rows of one claim; the next is on its way while these are published and those before are deleted. */
const CLAIM_ROWS = 1_000
const IDLE_MS_MIN = 200
const IDLE_MS_MAX = 2_000
const ERROR_MS_MIN = 100
const ERROR_MS_MAX = 5_000
/** After a publish that the broker did not take. */
const RETRY_MS = 2_000
/** What a claim lasts beyond the deadline of its publish, for the deletion: so soon a crash's rows come due again. */
const CLAIM_MARGIN_MS = 5_000
const WRITE_RETRY_MS = 500
const CLOSE_MS = 3_000

/**
 * Starts a node's relay: publishes the rows of transactions that it attends, which are claimed as they are written, and
 * claims others that are due (any process may, each row is claimed by one); all go in the publisher's window. Deletes those
 * that were confirmed, all of a moment in one statement. What is returned, refused or not answered stays, and while a queue
 * owes confirms none of its rows are claimed. A row whose process dies between the confirm and the deletion is published
 * twice: delivery is at least once.
 */
export function startRelay(node: OutboxNode, options: RelayOptions): Relay {
  const { publisher, queues, publishDeadlineMs, onUnroutable, unroutableRetryMs, log } = options
  const work = createPulse()
  const room = createPulse()
  let held = 0
  let closed = false
  let confirmed: ClaimKey[] = []
  let deleting: Promise<void> | undefined

  async function claimAndPublish(): Promise<void> {
    let idleMs = IDLE_MS_MIN
    let errorMs = ERROR_MS_MIN
    for (;;) {
      while (!closed && held + CLAIM_ROWS > HELD_ROWS_MAX) await room.wait()
      if (closed) return
      if (!publisher.ready) {
        await work.wait(IDLE_MS_MAX)
        continue
      }
      try {
        const rows = await claim()
        errorMs = ERROR_MS_MIN
        if (rows.length > 0) {
          idleMs = IDLE_MS_MIN
          held += rows.length
          for (const row of rows) void publish(row)
          continue
        }
      } catch (error) {
        log.warn({ err: error, node: node.name, retryInMs: errorMs }, 'could not claim rows of the outbox')
        await work.wait(errorMs)
        errorMs = Math.min(errorMs * 2, ERROR_MS_MAX)
        continue
      }
      await work.wait(idleMs)
      idleMs = Math.min(idleMs * 2, IDLE_MS_MAX)
    }
  }

  const visibilityMs = publishDeadlineMs + CLAIM_MARGIN_MS
  const isAnswering = (queue: string): boolean => !publisher.isSilent({ exchange: WORK_EXCHANGE, queue })

  function claim(): Promise<RelayRow[]> {
    const answering = queues.filter(isAnswering)
    return claimForRelay(node.primary, { queues: answering, limit: CLAIM_ROWS, visibilityMs, token: randomUUID() })
  }

  async function publish(row: RelayRow): Promise<void> {
    const end = await publisher.publish(toWire(row, node.name))
    if (end === 'confirmed') {
      confirmed.push(row)
      deleting ??= deleteConfirmed()
      return
    }
    if (end === 'returned') onUnroutable()
    await giveBack(row, end === 'returned' ? unroutableRetryMs : RETRY_MS)
  }

  /** Rows given back in one tick travel in one statement per delay. */
  const returning = new Map<number, ClaimKey[]>()

  async function giveBack(row: ClaimKey, delayMs: number): Promise<void> {
    const batch = returning.get(delayMs)
    if (batch !== undefined) {
      batch.push(row)
      return
    }
    const mine = [row]
    returning.set(delayMs, mine)
    await new Promise((resolve) => setImmediate(resolve))
    returning.delete(delayMs)
    // If this fails the claims run out by themselves.
    await releaseToRelay(node.primary, mine, delayMs).catch((error: unknown) => {
      log.warn({ err: error, node: node.name }, 'could not give rows of the outbox back')
    })
    settled(mine.length)
  }

  async function deleteConfirmed(): Promise<void> {
    while (confirmed.length > 0) {
      const batch = confirmed
      confirmed = []
      // Not given up while we run: the messages are with the broker, and a row that stays is sent a second time.
      while (!(await isDeleted(batch)) && !closed) await sleep(WRITE_RETRY_MS)
      settled(batch.length)
    }
    deleting = undefined
  }

  async function isDeleted(batch: readonly ClaimKey[]): Promise<boolean> {
    try {
      await deleteClaims(node.primary, batch)
      return true
    } catch (error) {
      log.warn({ err: error, node: node.name }, 'could not delete published rows; trying again')
      return false
    }
  }

  function settled(count: number): void {
    held -= count
    room.fire()
  }

  function attend(trx: object): () => void {
    const token = randomUUID()
    const written: RelayRow[] = []
    let hasDue = false
    attendTransaction(trx, {
      claim: (queue) =>
        !closed && publisher.ready && held < WRITTEN_ROWS_MAX && isAnswering(queue) ? { token, visibilityMs } : null,
      claimed(rows) {
        for (const row of rows) written.push({ ...row, token, attempts: 0, cause: null, detail: null })
      },
      due: () => void (hasDue = true),
    })
    return () => {
      held += written.length
      for (const row of written) void publish(row)
      if (hasDue) work.fire()
    }
  }

  const claiming = claimAndPublish()
  publisher.onReady(() => work.fire())

  return {
    attend,
    wake: () => work.fire(),
    async close() {
      closed = true
      work.fire()
      room.fire()
      await claiming
      const deadline = performance.now() + CLOSE_MS
      while (held > 0 && performance.now() < deadline) await room.wait(deadline - performance.now())
    },
  }
}

function toWire(row: RelayRow, node: string): WireMessage {
  return {
    exchange: WORK_EXCHANGE,
    queue: row.queue,
    messageId: row.messageId,
    event: row.event,
    body: Buffer.from(row.body),
    requestId: row.requestId,
    enqueuedAt: row.enqueuedAt,
    node,
    attempts: row.attempts,
    failure: row.cause === null ? null : { cause: row.cause, detail: row.detail ?? '' },
  }
}
