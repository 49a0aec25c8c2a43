import type { Test } from 'tap'
import { createLogger } from '#platform/logger/logger.ts'
import { openBroker, type Broker, type BrokerOptions } from '#platform/rabbitmq/broker.ts'
import type { BrokerMetrics, PublishEnd } from '#platform/rabbitmq/broker-metrics.ts'
import { rabbitTransport, type RabbitTransportOptions } from '#platform/rabbitmq/rabbit-transport.ts'
import { topologyOf } from '#platform/rabbitmq/topology.ts'
import type { Transport } from '#platform/outbox/transport.ts'
import { QUEUE, type TestNode } from '../outbox/fixture.ts'

export const quiet = createLogger({ process: 'test', level: process.env['TEST_LOG_LEVEL'] ?? 'silent' })

/** One wait queue is enough for most tests, and a topology of one is made sooner. */
export const STEPS_MS = [1_000]

/** A broker's client for QUEUE, closed at teardown. */
export async function openTestBroker(t: Test, url: string, options: Partial<BrokerOptions> = {}): Promise<Broker> {
  const broker = await openBroker({ url, topology: topologyOf([QUEUE], STEPS_MS), name: 'test', log: quiet, ...options })
  t.teardown(() => broker.close())
  return broker
}

/** A transport closed at teardown, which retries at once unless told otherwise. */
export function openRabbitTransport(
  t: Test,
  broker: Broker,
  nodes: readonly TestNode[],
  options: Partial<RabbitTransportOptions> = {},
): Transport {
  const transport = rabbitTransport({ broker, nodes, log: quiet, delayMs: () => 0, closeMs: 50, ...options })
  t.teardown(() => transport.close())
  return transport
}

/** Counts of publishes by how they ended, which a test can wait on. */
export interface WatchedBroker extends BrokerMetrics {
  count(end: PublishEnd): number
  reached(end: PublishEnd, count: number): Promise<void>
}

export function watchBroker(): WatchedBroker {
  const counts = new Map<PublishEnd, number>()
  const waiting: { end: PublishEnd; count: number; resolve: (value: undefined) => void }[] = []
  const count = (end: PublishEnd): number => counts.get(end) ?? 0
  return {
    linked: () => undefined,
    published(end) {
      counts.set(end, count(end) + 1)
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
