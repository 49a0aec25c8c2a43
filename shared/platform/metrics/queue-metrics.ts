import { Gauge, type Registry } from 'prom-client'
import type { OutboxNode } from '../outbox/postgres-consumer.ts'
import { deadLetterCounts, queueDepths } from '../outbox/queue-depth.ts'

/**
 * Gauges of every queue's rows, of the age of the one due longest and of dead letters, read from the nodes at each scrape.
 * One process type is enough to show them: they are the same from everywhere.
 */
export function queueMetrics(registry: Registry, nodes: readonly OutboxNode[]): void {
  const read = onePerScrape(() => ofEachNode(nodes, queueDepths))
  new Gauge({
    name: 'monogram_queue_rows',
    help: 'Rows of the outbox by node, queue and state (due, delayed or claimed)',
    labelNames: ['node', 'queue', 'state'],
    registers: [registry],
    async collect() {
      const found = await read()
      this.reset()
      for (const { node, queue, due, delayed, claimed } of found) {
        this.set({ node, queue, state: 'due' }, due)
        this.set({ node, queue, state: 'delayed' }, delayed)
        this.set({ node, queue, state: 'claimed' }, claimed)
      }
    },
  })
  new Gauge({
    name: 'monogram_queue_oldest_due_seconds',
    help: 'Seconds for which the row due longest has been due, by node and queue',
    labelNames: ['node', 'queue'],
    registers: [registry],
    async collect() {
      const found = await read()
      this.reset()
      for (const { node, queue, oldestDueSeconds } of found) this.set({ node, queue }, oldestDueSeconds)
    },
  })
  new Gauge({
    name: 'monogram_dead_letters',
    help: 'Messages that were given up on and that nobody has replayed or discarded yet, by node and queue',
    labelNames: ['node', 'queue'],
    registers: [registry],
    async collect() {
      const found = await ofEachNode(nodes, deadLetterCounts)
      this.reset()
      for (const { node, queue, letters } of found) this.set({ node, queue }, letters)
    },
  })
}

/** A node that does not answer shows no figures; the others still do. */
async function ofEachNode<Row extends object>(
  nodes: readonly OutboxNode[],
  query: (db: OutboxNode['primary']) => Promise<Row[]>,
): Promise<(Row & { node: string })[]> {
  const answers = await Promise.allSettled(nodes.map(({ primary }) => query(primary)))
  return answers.flatMap((answer, index) => {
    const node = nodes[index]?.name ?? ''
    return answer.status === 'fulfilled' ? answer.value.map((row) => ({ ...row, node })) : []
  })
}

/** Both gauges of the outbox are asked in the same tick of a scrape: one query serves them. */
function onePerScrape<T>(query: () => Promise<T>): () => Promise<T> {
  let reading: Promise<T> | undefined
  return () =>
    (reading ??= query().finally(() => {
      reading = undefined
    }))
}
