import t from 'tap'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { consuming, handling, openNode, outboxRows, publishCounted, watchMetrics } from '../outbox/fixture.ts'
import { openRabbitTransport, openTestBroker } from './fixture.ts'
import { openRaw, readyMessages } from './raw.ts'

const server = await startTestBroker(t)

t.test('close waits for what runs and gives back what has not begun, uncounted', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const metrics = watchMetrics()
  const begun = Promise.withResolvers<undefined>()
  const proceed = Promise.withResolvers<undefined>()
  const seen: number[] = []
  const handler = handling(async (n) => {
    seen.push(n)
    begun.resolve(undefined)
    await proceed.promise
  })
  const broker = await openTestBroker(t, url)
  const transport = openRabbitTransport(t, broker, [node], { closeMs: 10_000, metrics })
  const consumer = transport.consume(consuming([handler], { concurrency: 1, batch: 3 }))
  await publishCounted(node, 1, 2, 3)
  transport.wake()
  await begun.promise
  const closed = consumer.close()
  proceed.resolve(undefined)
  await closed
  t.equal(seen.length, 1)
  t.same([metrics.count('done'), metrics.count('lost')], [1, 0])
  t.same(await readyMessages(openRaw(t, url)), { 'monogram.work': 2 })
  const attempts: number[] = []
  const next = openRabbitTransport(t, broker, [node])
  await next.consume(consuming([handling((_n, { attempt }) => void attempts.push(attempt))])).drained()
  t.same(attempts, [1, 1])
})

t.test('close does not wait for a handler that hangs: it is aborted, and others get the message at once', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const begun = Promise.withResolvers<AbortSignal>()
  const hanging = handling(async (_n, { signal }) => {
    begun.resolve(signal)
    await new Promise(() => undefined)
  })
  const broker = await openTestBroker(t, url)
  const transport = openRabbitTransport(t, broker, [node], { closeMs: 10 })
  const consumer = transport.consume(consuming([hanging]))
  await publishCounted(node, 1)
  transport.wake()
  const signal = await begun.promise
  const startMs = performance.now()
  await consumer.close()
  await consumer.close()
  t.ok(performance.now() - startMs < 5_000)
  t.equal((signal.reason as Error).name, 'ShutdownError')
  const attempts: number[] = []
  await openRabbitTransport(t, broker, [node]).consume(consuming([handling((_n, { attempt }) => void attempts.push(attempt))])).drained()
  t.same(attempts, [1])
})

t.test('at most the prefetch is held by one worker, the rest is for the others', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const proceed = Promise.withResolvers<undefined>()
  const broker = await openTestBroker(t, url)
  const metrics = watchMetrics()
  let begun = 0
  const transport = openRabbitTransport(t, broker, [node], { metrics, closeMs: 5_000 })
  const consumer = transport.consume(consuming([handling(async () => {
    begun++
    await proceed.promise
  })], { concurrency: 2 }))
  await publishCounted(node, ...Array(20).keys())
  transport.wake()
  while ((await outboxRows(node)).length > 0);
  t.same(await readyMessages(openRaw(t, url)), { 'monogram.work': 16 }, 'twice the concurrency')
  t.equal(begun, 2)
  proceed.resolve(undefined)
  await consumer.drained()
  t.equal(metrics.count('done'), 20)
})
