import { sql } from 'kysely'
import t from 'tap'
import { Type } from 'typebox'
import { manualClock } from '#kernel/clock.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { currentTrace, withTrace, type Trace } from '#platform/logger/trace.ts'
import { claimRows } from '#platform/outbox/claims.ts'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { message, publishEvent, publishEvents } from '#platform/outbox/publish.ts'
import { queueDepths } from '#platform/outbox/queue-depth.ts'
import type { Handler, Job } from '#platform/outbox/transport.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { consuming, counted, handling, makeAllDue, openNode, openTransport, outboxRows, publishCounted, QUEUE, watchMetrics, type TestNode } from './fixture.ts'

/** Short enough to see it run out twice; two workers share the row. */
const SHORT_CLAIM_MS = 300

/** When the one row of the outbox is due, in Unix milliseconds of the server. */
async function dueAt(node: TestNode): Promise<number> {
  const { rows } = await sql<{ ms: number }>`
    select (extract(epoch from available_at) * 1000)::float8 as ms from outbox`.execute(node.primary)
  return rows[0]?.ms ?? Infinity
}

t.test('a message is sent if and only if its transaction commits, once per queue', async (t) => {
  const node = await openNode(t)
  const spread = defineEvent('spread', Type.Object({}), ['one', 'two'])
  await node.primary.transaction().execute((trx) => publishEvent(trx, spread, {}))
  await t.rejects(
    node.primary.transaction().execute(async (trx) => {
      await publishEvent(trx, spread, {})
      throw new Error('no')
    }),
    { message: 'no' },
  )
  const { rows } = await sql<{ queue: string; ids: number }>`select queue, (select count(distinct message_id)::int
    from outbox) as ids from outbox order by queue`.execute(node.primary)
  t.same(rows, [{ queue: 'one', ids: 1 }, { queue: 'two', ids: 1 }])
})

t.test('a body that breaks its contract never enters the outbox', async (t) => {
  const node = await openNode(t)
  const wrong = { n: 'one' } as unknown as { n: number }
  await t.rejects(publishEvents(node.primary, [message(counted, { n: 1 }), message(counted, wrong)]), TypeError)
  t.same(await outboxRows(node), [])
})

t.test('every message is handled and deleted, in the trace of its request', async (t) => {
  const node = await openNode(t)
  await withTrace({ requestId: 'request-1', jobId: null }, () => publishCounted(node, 1, 2, 3))
  const seen: { n: number; trace: Trace; id: string; requestId: string | null; attempt: number }[] = []
  const transport = openTransport(t, [node])
  const consumer = transport.consume(
    consuming([handling((n, { id, requestId, attempt }) => {
      seen.push({ n, trace: currentTrace(), id, requestId, attempt })
    })]),
  )
  await consumer.drained()
  t.same(await outboxRows(node), [])
  t.same(seen.map(({ n }) => n).sort(), [1, 2, 3])
  for (const { id, trace, requestId, attempt } of seen) {
    t.same(trace, { requestId: 'request-1', jobId: id })
    t.same([requestId, attempt], ['request-1', 1])
  }
})

t.test('what ends in one tick is deleted in one statement', async (t) => {
  const node = await openNode(t)
  await sql`create table deletes (at int)`.execute(node.primary)
  await sql`create function note() returns trigger language plpgsql as
    $$ begin insert into deletes values (1); return null; end $$`.execute(node.primary)
  await sql`create trigger note after delete on outbox for each statement execute function note()`.execute(node.primary)
  await publishCounted(node, ...Array(100).keys())
  const consumer = openTransport(t, [node]).consume(consuming([handling(() => undefined)], { batch: 200 }))
  await consumer.drained()
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from deletes`.execute(node.primary)
  t.same(rows, [{ n: 1 }])
})

t.test('a delayed message waits', async (t) => {
  const node = await openNode(t)
  await publishEvents(node.primary, [message(counted, { n: 1 }, { delayMs: 60_000 })])
  const seen: number[] = []
  const consumer = openTransport(t, [node]).consume(consuming([handling((n) => void seen.push(n))]))
  await consumer.drained()
  t.same(seen, [])
  t.match(await queueDepths(node.primary), [{ queue: QUEUE, due: 0, delayed: 1, claimed: 0, oldestDueSeconds: 0 }])
  await makeAllDue(node)
  await consumer.drained()
  t.same(seen, [1])
})

t.test('two consumers share a queue without doubling anything', async (t) => {
  const node = await openNode(t)
  const seen: number[] = []
  const takers = new Set<string>()
  const both = Promise.withResolvers<undefined>()
  const handlerOf = (taker: string): Handler[] => [
    handling(async (n) => {
      seen.push(n)
      takers.add(taker)
      if (takers.size === 2) both.resolve(undefined)
      await both.promise
    }),
  ]
  await publishCounted(node, ...Array(40).keys())
  const first = openTransport(t, [node]).consume(consuming(handlerOf('first'), { concurrency: 2 }))
  const second = openTransport(t, [node]).consume(consuming(handlerOf('second'), { concurrency: 2 }))
  await Promise.all([first.drained(), second.drained()])
  t.same(seen.sort((a, b) => a - b), [...Array(40).keys()])
})

t.test('every node is polled, and each row is settled where it lies', async (t) => {
  const [east, west] = [await openNode(t, 'east'), await openNode(t, 'west')]
  await publishCounted(east, 1, 2)
  await publishCounted(west, 3)
  const seen: number[] = []
  const consumer = openTransport(t, [east, west]).consume(consuming([handling((n) => void seen.push(n))]))
  await consumer.drained()
  t.same(seen.sort(), [1, 2, 3])
  t.same([await outboxRows(east), await outboxRows(west)], [[], []])
})

t.test('a node that is down does not stop the others, and is served again once it is back', async (t) => {
  const [up, down] = [await openNode(t, 'up'), await openNode(t, 'down')]
  const seen: number[] = []
  const all = Promise.withResolvers<undefined>()
  await sql`alter table outbox rename to outbox_away`.execute(down.primary)
  const transport = openTransport(t, [up, down])
  transport.consume(
    consuming([handling((n) => {
      seen.push(n)
      if (seen.length === 2) all.resolve(undefined)
      if (n === 1) void restore()
    })]),
  )
  async function restore(): Promise<void> {
    await sql`alter table outbox_away rename to outbox`.execute(down.primary)
    await publishCounted(down, 2)
    transport.wake()
  }
  await publishCounted(up, 1)
  transport.wake()
  await all.promise
  t.same(seen, [1, 2])
})

t.test('a lost connection is survived', async (t) => {
  const node = await openNode(t)
  const metrics = watchMetrics()
  // The administrator's connection is not of the pool whose backends it ends.
  const admin = openPool<unknown>(
    { url: node.url, max: 1, applicationName: 'admin' },
    createLogger({ process: 'test', level: 'silent' }),
  )
  t.teardown(() => admin.destroy())
  const transport = openTransport(t, [node], { metrics })
  transport.consume(
    consuming([handling(async (n) => {
      if (n !== 1) return
      await sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'test'`.execute(admin)
    })]),
  )
  await publishCounted(node, 1)
  await metrics.reached('done', 1)
  await publishCounted(node, 2)
  await metrics.reached('done', 2)
  t.same(await outboxRows(node), [])
})

t.test('a claim that is abandoned comes back after its visibility, and the crash counts as an attempt', async (t) => {
  const node = await openNode(t)
  await publishCounted(node, 1)
  const token = '00000000-0000-4000-8000-000000000001'
  const [claim] = await claimRows(node.primary, { queue: QUEUE, limit: 10, visibilityMs: 60_000, token })
  t.equal(claim?.delivery.attempt, 1)
  t.same(await claimRows(node.primary, { queue: QUEUE, limit: 10, visibilityMs: 60_000, token }), [], 'not visible')
  const [row] = await outboxRows(node)
  t.ok(row && row.claimed && row.dueInMs > 59_000 && row.dueInMs <= 120_000)
  await makeAllDue(node)
  const attempts: number[] = []
  const consumer = openTransport(t, [node]).consume(consuming([handling((_n, { attempt }) => void attempts.push(attempt))]))
  await consumer.drained()
  t.same(attempts, [2])
})

t.test('the claim of a job that runs is renewed, so no one else takes it', async (t) => {
  const node = await openNode(t)
  await publishCounted(node, 1)
  const attempts: number[] = []
  const outlive = async (_n: number, { attempt }: Job): Promise<void> => {
    attempts.push(attempt)
    const claimed = await dueAt(node)
    while ((await dueAt(node)) < claimed + 2 * SHORT_CLAIM_MS) if (attempts.length > 1) return
  }
  const [first, second] = [1, 2].map(() => openTransport(t, [node], { claimMs: SHORT_CLAIM_MS }))
  const consumer = first?.consume(consuming([handling(outlive)]))
  second?.consume(consuming([handling(outlive)]))
  await consumer?.drained()
  t.same(attempts, [1])
})

t.test('a job that waited too long for a slot is given back rather than begun', async (t) => {
  const node = await openNode(t)
  const clock = manualClock(0)
  const metrics = watchMetrics()
  const attempts: number[] = []
  const handler = handling((_n, { attempt }) => {
    // The first of the batch takes so long that the others could outlive their claims.
    if (attempts.push(attempt) === 1) clock.advance(5_001)
  })
  await publishCounted(node, 1, 2, 3)
  const transport = openTransport(t, [node], { clock, metrics })
  await transport.consume(consuming([handler], { concurrency: 1, batch: 3 })).drained()
  t.equal(metrics.count('returned'), 2)
  t.same(attempts, [1, 1, 1])
})

t.test('whoever lost its claim settles nothing', async (t) => {
  const node = await openNode(t)
  const metrics = watchMetrics()
  const transport = openTransport(t, [node], { metrics })
  transport.consume(
    consuming([handling(async () => {
      // Somebody else takes the row while we work: our token is no longer the row's.
      await sql`update outbox set claim_token = gen_random_uuid(), available_at = now() + interval '1 hour'`.execute(node.primary)
    })]),
  )
  await publishCounted(node, 1)
  transport.wake()
  await metrics.reached('lost', 1)
  t.match(await outboxRows(node), [{ n: 1, claimed: true }])
  t.equal(metrics.count('done'), 0)
})
