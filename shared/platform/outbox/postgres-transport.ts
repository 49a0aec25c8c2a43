import { pickDelayMs } from '#kernel/backoff.ts'
import { systemClock, type Clock } from '#kernel/clock.ts'
import { handlersByEvent } from './handlers-by-event.ts'
import { attendTransaction } from './handoff.ts'
import type { Logger } from '../logger/logger.ts'
import { noJobMetrics, type JobMetrics } from './job-metrics.ts'
import { startPostgresConsumer, type OutboxNode, type PostgresConsumer } from './postgres-consumer.ts'
import { ATTEMPTS_MAX, type Transport } from './transport.ts'

export interface PostgresTransportOptions {
  /** Every node: a row stays on the node of its change. */
  readonly nodes: readonly OutboxNode[]
  readonly log: Logger
  readonly metrics?: JobMetrics
  readonly clock?: Clock
  /** The wait before the next attempt, given how many have failed; by default the kernel's steps with jitter. */
  readonly delayMs?: (attempt: number) => number
  /** What a claim lasts at least unless it is renewed: at twice that, others have taken the jobs of a killed worker. */
  readonly claimMs?: number
  /** How long a close waits for the handlers that run. Below the 25 s that a process has to leave. */
  readonly closeMs?: number
}

const CLAIM_MS = 10_000
const CLOSE_MS = 15_000

/**
 * The transport without a broker: workers claim rows of the outbox with FOR UPDATE SKIP LOCKED, commit, work, and
 * delete them by the token of the claim. No transaction is open while a handler runs. An idle consumer asks each
 * node every 50 to 500 ms; a busy one asks for more as soon as half of its batch is settled.
 *
 * @returns a transport that outlives lost connections: it logs them, backs off and goes on
 */
export function postgresTransport(options: PostgresTransportOptions): Transport {
  const { nodes, log, metrics = noJobMetrics, clock = systemClock, claimMs = CLAIM_MS, closeMs = CLOSE_MS } = options
  const delayMs = options.delayMs ?? ((attempt: number) => pickDelayMs(attempt, Math.random))
  const consumers: PostgresConsumer[] = []
  const wake = (): void => {
    for (const consumer of consumers) consumer.wake()
  }
  return {
    consume({ queue, handlers, concurrency, deadlineMs, maxAttempts = ATTEMPTS_MAX, batch = concurrency * 2 }) {
      const rules = { handlers: handlersByEvent(handlers), deadlineMs, maxAttempts, delayMs, claimMs, closeMs, clock, log, metrics }
      const consumer = startPostgresConsumer(nodes, { queue, concurrency, batch, ...rules })
      consumers.push(consumer)
      return consumer
    },
    attend(trx) {
      let hasDue = false
      attendTransaction(trx, {
        claim: () => null,
        claimed: () => {},
        due: () => void (hasDue = true),
      })
      return () => {
        if (hasDue) wake()
      }
    },
    wake,
    async close() {
      await Promise.all(consumers.map((consumer) => consumer.close()))
    },
  }
}
