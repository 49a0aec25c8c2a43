import { sql } from 'kysely'
import t from 'tap'
import { listDeadLetters } from '#platform/outbox/dead-letters.ts'
import type { Failure, Handler } from '#platform/outbox/transport.ts'
import { consuming, counted, handling, makeAllDue, openNode, openTransport, outboxRows, publishCounted, watchMetrics } from './fixture.ts'

class Flaky extends Error {
  readonly code = 'flaky'
}

t.test('a failed job waits for the step of its attempt, with the reason beside it', async (t) => {
  const node = await openNode(t)
  const metrics = watchMetrics()
  const steps: number[] = []
  const delayMs = (attempt: number): number => {
    steps.push(attempt)
    return attempt * 100_000
  }
  const failing = handling(() => {
    throw new Flaky('not today')
  })
  const consumer = openTransport(t, [node], { metrics, delayMs }).consume(consuming([failing]))
  await publishCounted(node, 1)
  for (const attempt of [1, 2, 3]) {
    await metrics.reached('retried', attempt)
    await consumer.drained()
    const [row] = await outboxRows(node)
    t.match(row, { attempts: attempt, claimed: false, cause: 'flaky' })
    t.ok(row && row.dueInMs > attempt * 100_000 - 5_000 && row.dueInMs <= attempt * 100_000, `step ${attempt}`)
    await makeAllDue(node)
  }
  t.same(steps.slice(0, 3), [1, 2, 3])
})

t.test('poison becomes a dead letter after its attempts; its neighbours do not notice', async (t) => {
  const node = await openNode(t)
  const seen: number[] = []
  const handler = handling((n, { attempt }) => {
    seen.push(n)
    if (n === 13) throw new Flaky(`attempt ${attempt} \0 of poison`)
  })
  await publishCounted(node, ...Array(50).keys())
  const consumer = openTransport(t, [node]).consume(consuming([handler], { maxAttempts: 3 }))
  await consumer.drained()
  t.same(await outboxRows(node), [])
  t.same(seen.filter((n) => n !== 13).sort((a, b) => a - b), [...Array(50).keys()].filter((n) => n !== 13))
  t.equal(seen.filter((n) => n === 13).length, 3)
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [
    { queue: 'work', event: 'counted', body: { n: 13 }, cause: 'flaky', detail: 'attempt 3  of poison', attempts: 3 },
  ])
})

t.test('an unknown event and an invalid body are dead letters at once', async (t) => {
  const node = await openNode(t)
  await sql`insert into outbox (message_id, queue, event, body) values
    (gen_random_uuid(), 'work', 'unheard.of', '{}'), (gen_random_uuid(), 'work', 'counted', '{"n": "one"}'),
    (gen_random_uuid(), 'work', 'counted', 'null')`.execute(node.primary)
  const consumer = openTransport(t, [node]).consume(consuming([handling(() => void t.fail('must not run'))]))
  await consumer.drained()
  const letters = await listDeadLetters(node.primary, {}, { limit: 10 })
  t.same(letters.map(({ cause, attempts }) => [cause, attempts]).sort(), [['invalid_body', 1], ['invalid_body', 1], ['unknown_event', 1]])
  t.match(letters.find(({ body }) => body !== null && typeof body === 'object' && 'n' in body), { detail: /\/n must be/ })
})

t.test('a handler that hangs is told to stop at its deadline, and the message is delivered again', async (t) => {
  const node = await openNode(t)
  const aborted: unknown[] = []
  const metrics = watchMetrics()
  const handler = handling(async (_n, { attempt, signal }) => {
    if (attempt > 1) return
    signal.addEventListener('abort', () => aborted.push((signal.reason as Error).name))
    await new Promise(() => undefined)
  })
  await publishCounted(node, 1)
  const consumer = openTransport(t, [node], { metrics }).consume(consuming([handler], { deadlineMs: 20, concurrency: 1 }))
  await consumer.drained()
  t.same(aborted, ['DeadlineError'])
  t.same([metrics.count('retried'), metrics.count('done')], [1, 1])
})

t.test('the exhausted hook has the last word, and its own attempts', async (t) => {
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
  const consumer = openTransport(t, [node]).consume(consuming([handler], { maxAttempts: 2 }))
  await consumer.drained()
  const failure = { cause: 'flaky', detail: 'never' }
  t.same(heard, [{ failure, attempt: 2 }, { failure, attempt: 3 }])
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [{ cause: 'flaky', attempts: 3 }])
})

t.test('a hook that never works does not keep the message for ever', async (t) => {
  const node = await openNode(t)
  let hooks = 0
  const handler: Handler<typeof counted.schema> = {
    event: counted,
    handle: async () => Promise.reject(new Flaky('never')),
    async exhausted() {
      hooks++
      throw new Error('no')
    },
  }
  await publishCounted(node, 1)
  await openTransport(t, [node]).consume(consuming([handler], { maxAttempts: 1 })).drained()
  t.equal(hooks, 4)
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [{ cause: 'flaky' }])
})

t.test('a message that kills its worker is buried when its attempts are used up', async (t) => {
  const node = await openNode(t)
  await publishCounted(node, 1)
  await sql`update outbox set attempts = 3`.execute(node.primary)
  const heard: Failure[] = []
  const handler: Handler<typeof counted.schema> = {
    event: counted,
    handle: async () => void t.fail('must not run again'),
    exhausted: async (_body, _job, failure) => void heard.push(failure),
  }
  await openTransport(t, [node]).consume(consuming([handler], { maxAttempts: 3 })).drained()
  t.match(heard, [{ cause: 'abandoned' }])
  t.match(await listDeadLetters(node.primary, {}, { limit: 10 }), [{ cause: 'abandoned', attempts: 4 }])
})
