import { Counter, Gauge, type Registry } from 'prom-client'
import type { BrokerMetrics } from '../rabbitmq/broker-metrics.ts'

const STATES = ['up', 'blocked', 'down'] as const

/** Publishes of this process by how they ended, and the state of the connection that they take. */
export function brokerMetrics(registry: Registry): BrokerMetrics {
  const published = new Counter({
    name: 'monogram_broker_publishes_total',
    help: 'Publishes by how they ended: confirmed, returned (no queue is bound), refused (full), late, lost',
    labelNames: ['end'],
    registers: [registry],
  })
  const link = new Gauge({
    name: 'monogram_broker_connection',
    help: '1 for the state of the publishing connection: up, blocked (the broker is short of memory or disk) or down',
    labelNames: ['state'],
    registers: [registry],
  })
  return {
    published: (end) => published.inc({ end }),
    linked(state) {
      for (const candidate of STATES) link.set({ state: candidate }, candidate === state ? 1 : 0)
    },
  }
}
