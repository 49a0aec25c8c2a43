import t, { type Test } from 'tap'
import { Type } from 'typebox'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import type { Broker, BrokerOptions } from '#platform/rabbitmq/broker.ts'
import type { PublishEnd } from '#platform/rabbitmq/broker-metrics.ts'
import { topologyOf, WORK_EXCHANGE } from '#platform/rabbitmq/topology.ts'
import { eventually } from '../../support/eventually.ts'
import { startTestBroker, type TestVhost } from '../../support/rabbitmq.ts'
import { openNode, outboxRows, publishCounted, QUEUE } from '../outbox/fixture.ts'
import { openRabbitTransport, openTestBroker, STEPS_MS, watchBroker } from './fixture.ts'

const server = await startTestBroker(t)

const OTHER = 'other'
const mentioned = defineEvent('mentioned', Type.Object({ n: Type.Integer() }), [OTHER])
const WINDOW_MESSAGES = 8
/** More than the window. */
const MANY = 20

/** Stops the one process that keeps QUEUE, as a queue stops that has lost its majority; the broker lives on. */
async function silence({ url }: TestVhost): Promise<{ end: () => Promise<void> }> {
  const member = `'${decodeURIComponent(new URL(url).pathname.slice(1))}_monogram.${QUEUE}'`
  await server.control('eval', `sys:suspend(${member}).`)
  return {
    async end() {
      await server.control('eval', `sys:resume(${member}).`)
    },
  }
}

async function openNarrow(t: Test, url: string, options: Partial<BrokerOptions> = {}): Promise<Broker> {
  const topology = topologyOf([QUEUE, OTHER], STEPS_MS)
  return openTestBroker(t, url, { topology, windowMessages: WINDOW_MESSAGES, publishDeadlineMs: 1_000, ...options })
}

/** How many publishes to one queue, all at once, ended in each way. */
async function ends({ publisher }: Broker, queue: string): Promise<Partial<Record<PublishEnd, number>>> {
  const counts: Partial<Record<PublishEnd, number>> = {}
  const all = Array.from({ length: MANY }, () =>
    publisher.publish({
      exchange: WORK_EXCHANGE,
      queue,
      messageId: crypto.randomUUID(),
      event: 'counted',
      body: Buffer.from('{"n": 1}'),
      requestId: null,
      enqueuedAt: new Date(),
      node: 'main',
      attempts: 0,
      failure: null,
    }),
  )
  for (const end of await Promise.all(all)) counts[end] = (counts[end] ?? 0) + 1
  return counts
}

t.test('a queue that never confirms keeps no other from its messages, and health says so', async (t) => {
  const vhost = await server.vhost()
  const node = await openNode(t)
  const metrics = watchBroker()
  const broker = await openNarrow(t, vhost.url, { metrics })
  const transport = openRabbitTransport(t, broker, [node])
  // The first message of a channel to a queue waits for the queue, and every other message behind it.
  await Promise.all([ends(broker, QUEUE), ends(broker, OTHER)])
  const silent = await silence(vhost)
  // Each time as many more as would have filled the window.
  for (let round = 0; round < 2; round++) {
    t.same(await Promise.all([ends(broker, QUEUE), ends(broker, OTHER)]), [{ late: MANY }, { confirmed: MANY }])
    t.equal(broker.health(), 'degraded')
    t.ok(broker.publisher.ready)
  }

  await publishCounted(node, 1)
  await publishEvents(node.primary, [message(mentioned, { n: 2 })])
  transport.wake()
  await metrics.reached('confirmed', 4 * MANY + 1)
  t.match(await outboxRows(node), [{ n: 1, claimed: false, attempts: 0 }], 'its rows wait in the outbox')

  await silent.end()
  await eventually('nothing owed', () => Promise.resolve(broker.health() === 'ok' || undefined))
  t.same(await ends(broker, QUEUE), { confirmed: MANY })
})

t.test('confirms that are owed for too long are not waited for: the queue is tried again', async (t) => {
  const vhost = await server.vhost()
  const broker = await openNarrow(t, vhost.url, { overdueMsMax: 1 })
  await ends(broker, QUEUE)
  const silent = await silence(vhost)
  t.same(await ends(broker, QUEUE), { late: MANY })
  await eventually('nothing waited for', () => Promise.resolve(broker.health() === 'ok' || undefined))
  await silent.end()
  t.same(await ends(broker, QUEUE), { confirmed: MANY })
})
