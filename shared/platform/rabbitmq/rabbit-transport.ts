import { pickDelayMs } from '#kernel/backoff.ts'
import { systemClock, type Clock } from '#kernel/clock.ts'
import { handlersByEvent } from '../outbox/handlers-by-event.ts'
import type { Logger } from '../logger/logger.ts'
import { noJobMetrics, type JobMetrics } from '../outbox/job-metrics.ts'
import type { OutboxNode } from '../outbox/postgres-consumer.ts'
import { ATTEMPTS_MAX, type Consumer, type Transport } from '../outbox/transport.ts'
import type { Broker } from './broker.ts'
import { startBurial, type Burial } from './burial.ts'
import { startRabbitConsumer } from './rabbit-consumer.ts'
import { startRelay } from './relay.ts'

export interface RabbitTransportOptions {
  readonly broker: Broker
  /** Every node: each has an outbox to be relayed, and dead letters. */
  readonly nodes: readonly OutboxNode[]
  readonly log: Logger
  readonly metrics?: JobMetrics
  readonly clock?: Clock
  /** The wait before the next attempt, given how many have failed; by default the kernel's steps with jitter. */
  readonly delayMs?: (attempt: number) => number
  /** How long a close waits for the handlers that run. Below the 25 s that a process has to leave. */
  readonly closeMs?: number
  /** How long a row waits that no queue took. */
  readonly unroutableRetryMs?: number
}

const CLOSE_MS = 15_000
const UNROUTABLE_RETRY_MS = 15_000

/**
 * The transport with a broker. Every process relays the rows of the outbox (its own from memory, once they are committed;
 * what a crash left within seconds) to quorum queues, and deletes what was confirmed; a process that consumes also moves the
 * broker's dead letters into the tables of the nodes. Rules for handlers, attempts and dead letters are those of the
 * PostgreSQL transport.
 *
 * @returns a transport that outlives the broker: rows then wait in the outbox, handlers at work end as they may
 */
export function rabbitTransport(options: RabbitTransportOptions): Transport {
  const { broker, nodes, log, metrics = noJobMetrics, clock = systemClock, closeMs = CLOSE_MS } = options
  const delayMs = options.delayMs ?? ((attempt: number) => pickDelayMs(attempt, Math.random))
  const consumers: Consumer[] = []
  let burial: Burial | undefined
  const relays = new Map(
    nodes.map((node) => [
      node.name,
      startRelay(node, {
        publisher: broker.publisher,
        queues: broker.topology.queues,
        publishDeadlineMs: broker.publishDeadlineMs,
        onUnroutable: () => void broker.prepare(true).catch(() => undefined),
        unroutableRetryMs: options.unroutableRetryMs ?? UNROUTABLE_RETRY_MS,
        log,
      }),
    ]),
  )
  const wake = (): void => {
    for (const relay of relays.values()) relay.wake()
  }

  return {
    consume({ queue, handlers, concurrency, deadlineMs, maxAttempts = ATTEMPTS_MAX, batch = concurrency * 2 }) {
      if (!broker.topology.queues.includes(queue)) throw new TypeError(`the topology has no queue ${queue}`)
      const rules = { handlers: handlersByEvent(handlers), deadlineMs, maxAttempts, delayMs, closeMs, clock, log, metrics }
      const consumer = startRabbitConsumer(broker, nodes, { queue, concurrency, prefetch: batch, ...rules })
      const letters = (burial ??= startBurial(broker, nodes, log))
      consumers.push(consumer)
      return {
        ...consumer,
        async drained() {
          wake()
          await consumer.drained()
          await letters.drained()
        },
      }
    },
    attend(trx, node) {
      const relay = relays.get(node)
      if (relay === undefined) throw new TypeError(`there is no node ${node}`)
      return relay.attend(trx)
    },
    wake,
    async close() {
      await Promise.all(consumers.map((consumer) => consumer.close()))
      await Promise.all([burial?.close(), ...Array.from(relays.values(), (relay) => relay.close())])
    },
  }
}
