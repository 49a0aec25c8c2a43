import t from 'tap'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { consuming, handling, openNode, outboxRows, publishCounted, watchMetrics } from '../outbox/fixture.ts'
import { openRabbitTransport, openTestBroker, watchBroker } from './fixture.ts'
import { openRaw, readyMessages } from './raw.ts'

const server = await startTestBroker(t)

t.test('rows of the outbox reach the handler by the broker and are deleted', async (t) => {
  const vhost = await server.vhost()
  const node = await openNode(t)
  const publishes = watchBroker()
  const broker = await openTestBroker(t, vhost.url, { metrics: publishes })
  const metrics = watchMetrics()
  const seen = new Set<number>()
  const attempts = new Set<number>()
  const transport = openRabbitTransport(t, broker, [node], { metrics })
  const consumer = transport.consume(
    consuming([handling((n, job) => {
      seen.add(n)
      attempts.add(job.attempt)
    })], { batch: 100 }),
  )
  await publishCounted(node, ...Array(500).keys())
  transport.wake()
  await consumer.drained()
  t.equal(seen.size, 500)
  t.same([...attempts], [1])
  t.equal(publishes.count('confirmed'), 500)
  t.equal(metrics.count('done'), 500)
  t.same(await outboxRows(node), [])
  await transport.close()
  t.same(await readyMessages(openRaw(t, vhost.url)), {})
})
