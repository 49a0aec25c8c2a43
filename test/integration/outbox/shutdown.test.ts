import t from 'tap'
import { consuming, handling, openNode, openTransport, outboxRows, publishCounted, watchMetrics } from './fixture.ts'

t.test('close waits for what runs and gives back what has not begun, uncounted', async (t) => {
  const node = await openNode(t)
  const begun = Promise.withResolvers<undefined>()
  const proceed = Promise.withResolvers<undefined>()
  const seen: number[] = []
  const handler = handling(async (n) => {
    seen.push(n)
    begun.resolve(undefined)
    await proceed.promise
  })
  await publishCounted(node, 1, 2, 3)
  const consumer = openTransport(t, [node], { closeMs: 10_000 }).consume(consuming([handler], { concurrency: 1, batch: 3 }))
  await begun.promise
  const closed = consumer.close()
  proceed.resolve(undefined)
  await closed
  t.equal(seen.length, 1)
  const left = await outboxRows(node)
  t.same(left.map(({ n }) => n), [1, 2, 3].filter((n) => !seen.includes(n)))
  for (const row of left) {
    t.match(row, { attempts: 0, claimed: false })
    t.ok(row.dueInMs <= 0, 'at once for others')
  }
})

t.test('close does not wait for a handler that hangs: it is aborted, and others get the message at once', async (t) => {
  const node = await openNode(t)
  const begun = Promise.withResolvers<AbortSignal>()
  const hanging = handling(async (_n, { signal }) => {
    begun.resolve(signal)
    await new Promise(() => undefined)
  })
  await publishCounted(node, 1)
  const consumer = openTransport(t, [node], { closeMs: 10 }).consume(consuming([hanging]))
  const signal = await begun.promise
  await consumer.close()
  await consumer.close()
  t.equal((signal.reason as Error).name, 'ShutdownError')
  t.match(await outboxRows(node), [{ n: 1, attempts: 0, claimed: false }])
  const attempts: number[] = []
  await openTransport(t, [node]).consume(consuming([handling((_n, { attempt }) => void attempts.push(attempt))])).drained()
  t.same(attempts, [1])
})

t.test('closing the transport closes every consumer, and an idle one at once', async (t) => {
  const node = await openNode(t)
  const metrics = watchMetrics()
  const transport = openTransport(t, [node], { metrics, closeMs: 60_000 })
  transport.consume(consuming([handling(() => undefined)]))
  transport.consume(consuming([handling(() => undefined)], { queue: 'other' }))
  await publishCounted(node, 1)
  transport.wake()
  await metrics.reached('done', 1)
  await transport.close()
  await publishCounted(node, 2)
  transport.wake()
  t.match(await outboxRows(node), [{ n: 2, attempts: 0 }])
})
