import { sql, type Transaction } from 'kysely'
import t from 'tap'
import { NO_TRACE, withTrace } from '#platform/logger/trace.ts'
import { message, publishEvent, publishEvents } from '#platform/outbox/publish.ts'
import type { Transport } from '#platform/outbox/transport.ts'
import { eventually } from '../../support/eventually.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { consuming, counted, handling, makeAllDue, openNode, outboxRows, publishCounted, type TestNode } from '../outbox/fixture.ts'
import { openRabbitTransport, openTestBroker, watchBroker } from './fixture.ts'
import { openRaw, readyMessages, takeRaw } from './raw.ts'

const server = await startTestBroker(t)

/** One transaction as the router's: attended, and told of its commit. */
async function attended(transport: Transport, node: TestNode, work: (trx: Transaction<unknown>) => Promise<void>): Promise<void> {
  const committed = await node.primary.transaction().execute(async (trx) => {
    const told = transport.attend(trx, node.name)
    await work(trx)
    return told
  })
  committed()
}

t.test('unroutable: the row stays, a metric says so, and it goes when the binding is back', async (t) => {
  const { url, control } = await server.vhost()
  const node = await openNode(t)
  const metrics = watchBroker()
  const broker = await openTestBroker(t, url, { metrics })
  const unbinder = openRaw(t, url)
  const raw = openRaw(t, url)
  // The library's promise for an unbind never settles, though the broker has done it.
  void unbinder.queueUnbind({ exchange: 'monogram.work', queue: 'monogram.work', routingKey: 'work' }).catch(() => undefined)
  await eventually('no binding', async () => !/^monogram.work\t/m.test(await control('list_bindings')) || undefined)
  const transport = openRabbitTransport(t, broker, [node], { unroutableRetryMs: 60_000 })
  await publishCounted(node, 1, 2)
  transport.wake()
  await metrics.reached('returned', 2)
  for (;;) {
    const rows = await outboxRows(node)
    if (rows.some(({ claimed }) => claimed)) continue
    t.match(rows, [{ n: 1, attempts: 0 }, { n: 2, attempts: 0 }])
    break
  }
  t.equal(metrics.count('confirmed'), 0)
  t.same(await readyMessages(raw), {})
  // A return has the topology put in place anew; sooner or later the rows' time comes.
  await eventually('both confirmed', async () => {
    await sql`update outbox set available_at = now() where claim_token is null`.execute(node.primary)
    transport.wake()
    return metrics.count('confirmed') === 2 ? true : undefined
  })
  t.same(await readyMessages(raw), { 'monogram.work': 2 })
})

t.test('an alarm: publishes end in time, rows stay, and go when it is over', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const metrics = watchBroker()
  const broker = await openTestBroker(t, url, { metrics, publishDeadlineMs: 300 })
  const transport = openRabbitTransport(t, broker, [node])
  await server.alarm('memory')
  try {
    await publishCounted(node, ...Array(20).keys())
    transport.wake()
    await metrics.reached('late', 20)
    t.equal(broker.health(), 'degraded')
    t.equal((await outboxRows(node)).length, 20)
  } finally {
    await server.calm('memory')
  }
  const seen = new Set<number>()
  await transport.consume(consuming([handling((n) => void seen.add(n))])).drained()
  t.equal(seen.size, 20)
  t.equal(broker.health(), 'ok')
})

t.test('a process dies between a publish and the deletion: the row is published again, the same message', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  await publishCounted(node, 7)
  // The dead process: what it did up to the confirm, and nothing after. Its claim has run out.
  const { rows } = await sql<{ messageId: string }>`select message_id as "messageId" from outbox`.execute(node.primary)
  const messageId = rows[0]?.messageId ?? ''
  const end = await broker.publisher.publish({
    exchange: 'monogram.work',
    queue: 'work',
    messageId,
    event: 'counted',
    body: Buffer.from('{"n": 7}'),
    requestId: null,
    enqueuedAt: new Date(),
    node: node.name,
    attempts: 0,
    failure: null,
  })
  t.equal(end, 'confirmed')
  await sql`update outbox set claim_token = gen_random_uuid(), available_at = now() - interval '1 second'`.execute(node.primary)
  const ids: string[] = []
  const transport = openRabbitTransport(t, broker, [node])
  await transport.consume(consuming([handling((_n, { id }) => void ids.push(id))])).drained()
  t.same(ids, [messageId, messageId])
  t.same(await outboxRows(node), [])
})

t.test('two processes relay the same outbox without publishing it twice', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const metrics = [watchBroker(), watchBroker()]
  const transports = await Promise.all(
    metrics.map(async (each) => openRabbitTransport(t, await openTestBroker(t, url, { metrics: each }), [node])),
  )
  await publishCounted(node, ...Array(3_000).keys())
  for (const transport of transports) transport.wake()
  while ((await outboxRows(node)).length > 0);
  t.equal(metrics.reduce((sum, each) => sum + each.count('confirmed'), 0), 3_000)
  t.same(await readyMessages(openRaw(t, url)), { 'monogram.work': 3_000 })
})

t.test('what an attended transaction publishes is sent from memory once it is committed', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const metrics = watchBroker()
  const broker = await openTestBroker(t, url, { metrics })
  const transport = openRabbitTransport(t, broker, [node])
  const seen: number[] = []
  const ids: string[] = []
  const consumer = transport.consume(consuming([handling((n, { id, requestId }) => void (seen.push(n), ids.push(`${id} ${requestId ?? ''}`)))]))
  // Whoever claims a row writes to it.
  await sql`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'claimed'; end $$`.execute(node.primary)
  await sql`create trigger unclaimed before update on outbox for each row execute function refuse()`.execute(node.primary)

  const numbers = [...Array(2_500).keys()]
  await withTrace({ ...NO_TRACE, requestId: 'r-1' }, () =>
    attended(transport, node, async (trx) => {
      await publishEvents(trx, numbers.map((n) => message(counted, { n })))
      const { rows } = await sql<{ ids: string[] }>`select array_agg(message_id || ' ' || request_id order by id) as ids from outbox`.execute(trx)
      ids.push(...(rows[0]?.ids ?? []))
    }))
  await metrics.reached('confirmed', numbers.length)
  await consumer.drained()
  t.same(seen.toSorted((a, b) => a - b), numbers)
  t.equal(new Set(ids).size, numbers.length, 'each with the id and the request of its row')
  t.same(await outboxRows(node), [])

  await t.rejects(attended(transport, node, async (trx) => {
    await publishEvent(trx, counted, { n: -1 })
    throw new Error('rolled back')
  }), { message: 'rolled back' })
  await consumer.drained()
  t.equal(seen.length, numbers.length)
})

t.test('what cannot be sent at once is written as due', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const transport = openRabbitTransport(t, broker, [node])
  await attended(transport, node, async (trx) => {
    await publishEvent(trx, counted, { n: 1 }, { delayMs: 60_000 })
    await publishEvent(trx, counted, { n: 2 })
    t.match(await outboxRows({ ...node, primary: trx }), [{ n: 1, claimed: false }, { n: 2, claimed: true, attempts: 0 }])
  })
  while ((await outboxRows(node)).length > 1);
  t.match(await outboxRows(node), [{ n: 1, claimed: false }])

  await server.alarm('memory')
  try {
    // A connection learns of an alarm when it publishes.
    await attended(transport, node, (trx) => publishEvent(trx, counted, { n: 3 }))
    await eventually('it takes no publishes', async () => Promise.resolve(broker.publishing.state === 'blocked' || undefined))
    await attended(transport, node, (trx) => publishEvent(trx, counted, { n: 4 }))
    t.match(await outboxRows(node), [{ n: 1 }, { n: 3, claimed: true }, { n: 4, claimed: false }])
  } finally {
    await server.calm('memory')
  }
  while ((await outboxRows(node)).length > 1);
})

t.test('a claim lasts from when its row was written, however long the transaction had waited before', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const transport = openRabbitTransport(t, broker, [node])
  await attended(transport, node, async (trx) => {
    const waited = await sql<{ until: string }>`select clock_timestamp()::text as until`.execute(trx)
    await publishEvent(trx, counted, { n: 1 })
    const { rows } = await sql`select from outbox where available_at >= ${waited.rows[0]?.until}::timestamptz + interval '15 seconds'`.execute(trx)
    t.equal(rows.length, 1)
  })
  while ((await outboxRows(node)).length > 0);
})

t.test('a process dies between the commit and the publish: the row comes due and goes', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const transport = openRabbitTransport(t, broker, [node])
  await node.primary.transaction().execute(async (trx) => {
    transport.attend(trx, node.name)
    await publishEvent(trx, counted, { n: 1 })
  })
  const [row] = await outboxRows(node)
  t.match(row, { n: 1, claimed: true })
  t.ok(row !== undefined && row.dueInMs > 0 && row.dueInMs <= 15_000, 'within seconds')
  await makeAllDue(node)
  const seen: number[] = []
  await transport.consume(consuming([handling((n) => void seen.push(n))])).drained()
  t.same(seen, [1])
})

t.test('a body of several frames arrives whole', async (t) => {
  const { url } = await server.vhost()
  const broker = await openTestBroker(t, url)
  const body = Buffer.from(JSON.stringify('x'.repeat(300_000)))
  const end = await broker.publisher.publish({
    exchange: 'monogram.work',
    queue: 'work',
    messageId: crypto.randomUUID(),
    event: 'counted',
    body,
    requestId: null,
    enqueuedAt: new Date(),
    node: 'main',
    attempts: 0,
    failure: null,
  })
  t.equal(end, 'confirmed')
  const taken = await takeRaw(openRaw(t, url), 'monogram.work')
  t.ok(Buffer.isBuffer(taken?.body) && taken.body.equals(body))
})
