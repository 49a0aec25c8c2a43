import { sql } from 'kysely'
import t from 'tap'
import { createMetrics } from '#platform/metrics/metrics.ts'
import { queueMetrics } from '#platform/metrics/queue-metrics.ts'
import { openNode, publishCounted } from './fixture.ts'

t.test('a scrape shows the rows of every queue and the age of the oldest, of the nodes that answer', async (t) => {
  const [up, down] = [await openNode(t, 'up'), await openNode(t, 'down')]
  await publishCounted(up, 1, 2, 3, 4)
  await sql`update outbox set available_at = now() + interval '1 minute' where body->>'n' = '1'`.execute(up.primary)
  await sql`update outbox set available_at = now() + interval '1 minute', claim_token = gen_random_uuid()
    where body->>'n' = '2'`.execute(up.primary)
  await sql`update outbox set available_at = now() - interval '100 seconds' where body->>'n' = '3'`.execute(up.primary)
  await sql`insert into dead_letters (message_id, queue, event, body, enqueued_at, attempts, cause, detail)
    select gen_random_uuid(), 'work', 'counted', '{}', now(), 12, 'x', 'y' from generate_series(1, 3)`.execute(up.primary)
  await sql`alter table outbox rename to outbox_away`.execute(down.primary)

  const registry = createMetrics('test')
  queueMetrics(registry, [up, down])
  const figures = async (): Promise<string[]> =>
    (await registry.metrics()).split('\n').filter((line) => /^monogram_(queue|dead)/.test(line)).map((line) => line.replace(/(\.\d+)$/, ''))
  t.same(await figures(), [
    'monogram_queue_rows{node="up",queue="work",state="due",process="test"} 2',
    'monogram_queue_rows{node="up",queue="work",state="delayed",process="test"} 1',
    'monogram_queue_rows{node="up",queue="work",state="claimed",process="test"} 1',
    'monogram_queue_oldest_due_seconds{node="up",queue="work",process="test"} 100',
    'monogram_dead_letters{node="up",queue="work",process="test"} 3',
  ])
  await sql`delete from outbox`.execute(up.primary)
  await sql`delete from dead_letters`.execute(up.primary)
  t.same(await figures(), [], 'a queue that is empty leaves')
})
