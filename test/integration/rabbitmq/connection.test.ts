import t from 'tap'
import { eventually } from '../../support/eventually.ts'
import { startFaultProxy } from '../../support/fault-proxy.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { consuming, handling, openNode, outboxRows, publishCounted, watchMetrics } from '../outbox/fixture.ts'
import { openRabbitTransport, openTestBroker } from './fixture.ts'

const server = await startTestBroker(t)

for (const kind of ['reset', 'fin'] as const) {
  t.test(`the connection ends (${kind}) in the middle of a frame, again and again: everything arrives`, async (t) => {
    const { url } = await server.vhost()
    const proxy = await startFaultProxy(t, server.port)
    const node = await openNode(t)
    const broker = await openTestBroker(t, url.replace(`:${server.port}/`, `:${proxy.port}/`))
    const seen = new Set<number>()
    const transport = openRabbitTransport(t, broker, [node])
    const consumer = transport.consume(consuming([handling((n) => void seen.add(n))], { batch: 100 }))
    await consumer.drained()
    for (let round = 0; round < 3; round++) {
      await publishCounted(node, ...Array.from({ length: 300 }, (_, n) => round * 300 + n))
      proxy.set({ kind, afterBytes: 5_001 + round * 777 })
      const before = proxy.connections
      transport.wake()
      await eventually('a new connection', async () => Promise.resolve(proxy.connections > before || undefined))
      proxy.set({ kind: 'none' })
      await consumer.drained()
    }
    t.equal(seen.size, 900)
    t.same(await outboxRows(node), [])
  })
}

t.test('a broker that is killed and comes back has what it confirmed, and is consumed again', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const seen = new Set<number>()
  const metrics = watchMetrics()
  const begun = Promise.withResolvers<undefined>()
  const proceed = Promise.withResolvers<undefined>()
  const transport = openRabbitTransport(t, broker, [node], { metrics })
  let count = 0
  const handler = handling(async (n) => {
    if (++count === 4) begun.resolve(undefined)
    await proceed.promise
    seen.add(n)
  })
  const consumer = transport.consume(consuming([handler]))
  await publishCounted(node, ...Array(100).keys())
  transport.wake()
  await begun.promise
  while ((await outboxRows(node)).length > 0);
  await server.kill()
  t.equal(broker.health(), 'degraded')
  await publishCounted(node, 100, 101)
  proceed.resolve(undefined)
  await server.start()
  await consumer.drained()
  t.equal(seen.size, 102)
  t.equal(metrics.count('lost'), 4, 'those at work when it died were delivered anew')
  t.equal(broker.health(), 'ok')
})

t.test('a queue that is deleted under its consumer is made anew and consumed', async (t) => {
  const { url, control } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const seen: number[] = []
  const transport = openRabbitTransport(t, broker, [node], { unroutableRetryMs: 500 })
  const consumer = transport.consume(consuming([handling((n) => void seen.push(n))]))
  await publishCounted(node, 1)
  await consumer.drained()
  await control('delete_queue', 'monogram.work')
  await publishCounted(node, 2)
  await consumer.drained()
  await eventually('the message after', async () => Promise.resolve(seen.includes(2) || undefined))
  t.same(seen, [1, 2])
})

t.test('a handler that hangs when the connection is lost keeps nobody from consuming', async (t) => {
  const { url, closeConnections } = await server.vhost()
  const node = await openNode(t)
  const begun = Promise.withResolvers<undefined>()
  const broker = await openTestBroker(t, url)
  const transport = openRabbitTransport(t, broker, [node])
  let runs = 0
  const hanging = handling(async () => {
    begun.resolve(undefined)
    if (++runs === 1) await new Promise(() => undefined)
  })
  const consumer = transport.consume(consuming([hanging], { concurrency: 2, deadlineMs: 60_000 }))
  await publishCounted(node, 1)
  transport.wake()
  await begun.promise
  await closeConnections()
  await consumer.drained()
  t.equal(runs, 2)
})
