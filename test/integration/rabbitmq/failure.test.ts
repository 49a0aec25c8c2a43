import { randomUUID } from 'node:crypto'
import t from 'tap'
import { listDeadLetters, replayDeadLetters } from '#platform/outbox/dead-letters.ts'
import type { Failure, Handler } from '#platform/outbox/transport.ts'
import { DELIVERY_LIMIT, topologyOf } from '#platform/rabbitmq/topology.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { consuming, counted, handling, openNode, outboxRows, publishCounted, QUEUE, watchMetrics } from '../outbox/fixture.ts'
import { openRabbitTransport, openTestBroker } from './fixture.ts'
import { dieHolding, openRaw, publishRaw, readyMessages } from './raw.ts'

const server = await startTestBroker(t)

class Flaky extends Error {
  readonly code = 'flaky'
}

t.test('a failed job waits in the wait queue of its step and comes back with its reason and its count', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const metrics = watchMetrics()
  const raw = openRaw(t, url)
  const times: { attempt: number; atMs: number }[] = []
  const [shortMs, longMs] = [1_000, 256_000]
  let delayMs = shortMs
  const broker = await openTestBroker(t, url, { topology: topologyOf([QUEUE], [shortMs, longMs]) })
  const transport = openRabbitTransport(t, broker, [node], { metrics, delayMs: () => delayMs })
  const consumer = transport.consume(
    consuming([handling((_n, { attempt }) => {
      times.push({ attempt, atMs: performance.now() })
      if (attempt === 1) throw new Flaky('not today')
    })]),
  )
  await publishCounted(node, 1)
  transport.wake()
  await metrics.reached('retried', 1)
  await consumer.drained()
  t.same(await readyMessages(raw), { 'monogram.wait.1000ms': 1 })
  await metrics.reached('done', 1)
  t.same(times.map(({ attempt }) => attempt), [1, 2])
  const waitedMs = (times[1]?.atMs ?? 0) - (times[0]?.atMs ?? 0)
  t.ok(waitedMs >= 990 && waitedMs < 5_000, `waited ${waitedMs} ms`)

  delayMs = longMs
  await publishCounted(node, 2)
  transport.wake()
  await metrics.reached('retried', 2)
  await consumer.drained()
  t.match(await raw.queueDeclare({ queue: 'monogram.wait.256000ms', passive: true }), { messageCount: 1 })
})

t.test('poison becomes a dead letter after its attempts, its neighbours do not notice, and a replay works', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const seen: number[] = []
  let isCured = false
  const handler = handling((n, { attempt }) => {
    seen.push(n)
    if (n === 13 && !isCured) throw new Flaky(`attempt ${attempt} \0 of ${'𝄞'.repeat(3_000)}`)
  })
  await publishCounted(node, ...Array(50).keys())
  const transport = openRabbitTransport(t, await openTestBroker(t, url), [node])
  const consumer = transport.consume(consuming([handler], { maxAttempts: 3 }))
  await consumer.drained()
  t.same(await outboxRows(node), [])
  t.same(seen.filter((n) => n !== 13).sort((a, b) => a - b), [...Array(50).keys()].filter((n) => n !== 13))
  t.equal(seen.filter((n) => n === 13).length, 3)
  const [letter, ...others] = await listDeadLetters(node.primary, {}, { limit: 10 })
  t.same(others, [])
  t.match(letter, { queue: 'work', event: 'counted', body: { n: 13 }, cause: 'flaky', detail: /^attempt 3 {2}of/, attempts: 3 })
  t.ok(letter && Math.abs(letter.failedAt.getTime() - letter.enqueuedAt.getTime()) < 60_000)

  isCured = true
  t.equal(await replayDeadLetters(node.primary, {}, 10), 1)
  await consumer.drained()
  t.equal(seen.filter((n) => n === 13).length, 4)
  t.same(await listDeadLetters(node.primary, {}, { limit: 10 }), [])
  await transport.close()
  t.same(await readyMessages(openRaw(t, url)), {})
})

t.test('an unknown event, an invalid body and what is no JSON are dead letters at once', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const transport = openRabbitTransport(t, await openTestBroker(t, url), [node])
  const consumer = transport.consume(consuming([handling(() => void t.fail('must not run'))]))
  const envelope = () => ({ exchange: 'monogram.work', routingKey: 'work', messageId: randomUUID(), type: 'counted' })
  await publishRaw(openRaw(t, url), [
    { envelope: { ...envelope(), type: 'unheard.of' }, body: {} },
    { envelope: envelope(), body: { n: 'one' } },
    { envelope: envelope(), body: Buffer.from('{"n": 1') },
    { envelope: { exchange: 'monogram.work', routingKey: 'work' }, body: 'from a stranger \0' },
  ])
  await consumer.drained()
  const letters = await listDeadLetters(node.primary, {}, { limit: 10 })
  t.same(letters.map(({ cause, attempts }) => [cause, attempts]).sort(), [
    ['invalid_body', 1],
    ['invalid_body', 1],
    ['unknown_event', 1],
    ['unknown_event', 1],
  ])
  t.ok(letters.some(({ body }) => body === '{"n": 1'), 'kept as it came')
})

t.test('a dead letter that arrives twice is kept once', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const transport = openRabbitTransport(t, await openTestBroker(t, url), [node])
  const consumer = transport.consume(consuming([handling(() => undefined)]))
  const envelope = { exchange: 'monogram.work', routingKey: 'work', messageId: randomUUID(), type: 'counted' }
  await publishRaw(openRaw(t, url), [{ envelope, body: {} }, { envelope, body: {} }, { envelope, body: {} }])
  await consumer.drained()
  t.equal((await listDeadLetters(node.primary, {}, { limit: 10 })).length, 1)
})

t.test('a handler that hangs is told to stop at its deadline, and the message is delivered again', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const aborted: unknown[] = []
  const metrics = watchMetrics()
  const handler = handling(async (_n, { attempt, signal }) => {
    if (attempt > 1) return
    signal.addEventListener('abort', () => aborted.push((signal.reason as Error).name))
    await new Promise(() => undefined)
  })
  await publishCounted(node, 1)
  const transport = openRabbitTransport(t, await openTestBroker(t, url), [node], { metrics })
  const consumer = transport.consume(consuming([handler], { deadlineMs: 20, concurrency: 1 }))
  await consumer.drained()
  t.same(aborted, ['DeadlineError'])
  t.same([metrics.count('retried'), metrics.count('done')], [1, 1])
})

t.test('the exhausted hook has the last word, and its own attempts', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const heard: { failure: Failure; attempt: number }[] = []
  const handler: Handler<typeof counted.schema> = {
    event: counted,
    handle: async () => Promise.reject(new Flaky('never')),
    async exhausted({ n }, { attempt }, failure) {
      t.equal(n, 1)
      heard.push({ failure, attempt })
      if (heard.length < 2) throw new Error('the hook has a bad day')
    },
  }
  await publishCounted(node, 1)
  const transport = openRabbitTransport(t, await openTestBroker(t, url), [node])
  await transport.consume(consuming([handler], { maxAttempts: 2 })).drained()
  const failure = { cause: 'flaky', detail: 'never' }
  t.same(heard, [{ failure, attempt: 2 }, { failure, attempt: 3 }])
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [{ cause: 'flaky', attempts: 3 }])
})

t.test('a message that ends its worker again and again is buried when its attempts are used up', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const raw = openRaw(t, url)
  const first = await openTestBroker(t, url)
  await first.prepare()
  await publishRaw(raw, [{ envelope: { exchange: 'monogram.work', routingKey: 'work', messageId: randomUUID(), type: 'counted' }, body: { n: 1 } }])
  for (let crash = 0; crash < 3; crash++) await dieHolding(raw, 'monogram.work', 1)
  const heard: Failure[] = []
  const handler: Handler<typeof counted.schema> = {
    event: counted,
    handle: async () => void t.fail('must not run again'),
    exhausted: async (_body, _job, failure) => void heard.push(failure),
  }
  const transport = openRabbitTransport(t, first, [node])
  await transport.consume(consuming([handler], { maxAttempts: 3 })).drained()
  t.match(heard, [{ cause: 'abandoned' }])
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [{ cause: 'abandoned', attempts: 4 }])
  await transport.close()
  t.same(await readyMessages(openRaw(t, url)), {})
})

t.test('what two workers died with comes back apart, and only the next try counts', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const metrics = watchMetrics()
  const broker = await openTestBroker(t, url)
  const raw = openRaw(t, url)
  const messages = [1, 2, 3, 4, 5].map((n) => ({
    envelope: { exchange: 'monogram.work', routingKey: 'work', messageId: randomUUID(), type: 'counted' },
    body: { n },
  }))
  await publishRaw(raw, messages)
  for (let crash = 0; crash < 2; crash++) await dieHolding(raw, 'monogram.work', 5)
  const attempts: number[] = []
  const steps: number[] = []
  const delayMs = (attempt: number): number => {
    steps.push(attempt)
    return 1_000
  }
  const transport = openRabbitTransport(t, broker, [node], { metrics, delayMs })
  transport.consume(consuming([handling((_n, { attempt }) => void attempts.push(attempt))]))
  await metrics.reached('returned', 5)
  t.same(attempts, [], 'none was tried beside the others')
  await metrics.reached('done', 5)
  t.same(attempts, [3, 3, 3, 3, 3])
  t.same(steps, [2, 2, 2, 2, 2])
})

t.test('what the broker itself gives up becomes a dead letter too, which nothing takes from us', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const raw = openRaw(t, url)
  await publishRaw(raw, [{ envelope: { exchange: 'monogram.work', routingKey: 'work', messageId: randomUUID(), type: 'counted' }, body: { n: 1 } }])
  for (let crash = 0; crash <= DELIVERY_LIMIT; crash++) await dieHolding(raw, 'monogram.work', 1)
  // More often than a queue of RabbitMQ 4 allows that does not say.
  for (let crash = 0; crash < 25; crash++) await dieHolding(raw, 'monogram.dead', 1)
  const transport = openRabbitTransport(t, broker, [node])
  const consumer = transport.consume(consuming([handling(() => void t.fail('must not run'))]))
  await consumer.drained()
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [
    { queue: 'work', event: 'counted', body: { n: 1 }, cause: 'delivery_limit' },
  ])
})
