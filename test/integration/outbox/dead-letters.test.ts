import { sql } from 'kysely'
import t from 'tap'
import { discardDeadLetters, listDeadLetters, replayDeadLetters, type DeadLetterFilter } from '#platform/outbox/dead-letters.ts'
import { consuming, handling, openNode, openTransport, outboxRows, publishCounted, type TestNode } from './fixture.ts'

/** Six letters, ids 1 to 6: queues a, b in turn; causes deadline (1 to 3) and flaky; one an hour, 6 the last. */
async function withLetters(node: TestNode): Promise<TestNode> {
  await sql`insert into dead_letters (message_id, queue, event, body, enqueued_at, attempts, cause, detail, failed_at)
    select gen_random_uuid(), case n % 2 when 1 then 'a' else 'b' end, 'counted', jsonb_build_object('n', n),
      timestamptz '2026-01-01Z', 8, case when n <= 3 then 'deadline' else 'flaky' end, 'as said',
      timestamptz '2026-02-01Z' + n * interval '1 hour' from generate_series(1, 6) n`.execute(node.primary)
  return node
}

async function ids(node: TestNode, filter: DeadLetterFilter, page: { limit: number; below?: bigint }): Promise<number[]> {
  return (await listDeadLetters(node.primary, filter, page)).map(({ id }) => Number(id))
}

t.test('letters are listed by queue, cause and time, newest first, page by page', async (t) => {
  const node = await withLetters(await openNode(t))
  t.same(await ids(node, {}, { limit: 10 }), [6, 5, 4, 3, 2, 1])
  t.same(await ids(node, { queue: 'a' }, { limit: 10 }), [5, 3, 1])
  t.same(await ids(node, { queue: 'b', cause: 'flaky' }, { limit: 10 }), [6, 4])
  t.same(await ids(node, { before: new Date('2026-02-01T03:00:00Z') }, { limit: 10 }), [2, 1])
  t.same(await ids(node, { ids: [2n, 4n, 99n] }, { limit: 10 }), [4, 2])
  t.same(await ids(node, {}, { limit: 2 }), [6, 5])
  t.same(await ids(node, {}, { limit: 2, below: 5n }), [4, 3])
})

t.test('a replay moves letters back with all their attempts anew', async (t) => {
  const node = await withLetters(await openNode(t))
  t.equal(await replayDeadLetters(node.primary, { cause: 'deadline' }, 2), 2)
  t.same(await ids(node, {}, { limit: 10 }), [6, 5, 4, 3])
  t.match(await outboxRows(node), [{ n: 1, attempts: 0, claimed: false }, { n: 2, attempts: 0, claimed: false }])
  t.equal(await replayDeadLetters(node.primary, { ids: [6n] }, 10), 1)
  const seen: number[] = []
  await openTransport(t, [node]).consume(consuming([handling((n) => void seen.push(n))], { queue: 'b' })).drained()
  t.same(seen, [2, 6])
})

t.test('what fails for a while works after a replay, under the same message id', async (t) => {
  const node = await openNode(t)
  let broken = true
  const jobs: string[] = []
  const handler = handling((_n, { id }) => {
    jobs.push(id)
    if (broken) throw new Error('broken')
  })
  await publishCounted(node, 1)
  const consumer = openTransport(t, [node]).consume(consuming([handler], { maxAttempts: 1 }))
  await consumer.drained()
  broken = false
  t.equal(await replayDeadLetters(node.primary, {}, 100), 1)
  await consumer.drained()
  t.equal(jobs.length, 2)
  t.equal(jobs[0], jobs[1])
  t.same(await ids(node, {}, { limit: 10 }), [])
})

t.test('a discard deletes, the oldest first', async (t) => {
  const node = await withLetters(await openNode(t))
  t.equal(await discardDeadLetters(node.primary, { queue: 'a' }, 2), 2)
  t.same(await ids(node, {}, { limit: 10 }), [6, 5, 4, 2])
  t.same(await outboxRows(node), [])
})
