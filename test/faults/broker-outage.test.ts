import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import t from 'tap'
import { eventually } from '../support/eventually.ts'
import { startBrokerWorld } from './broker-world.ts'

/** What one answer may take while the broker is away. */
const UPLOAD_MS_MAX = 1_000
const OUTAGE_MS = 60_000
/** Between uploads: one worker of each kind has to work them off within a minute. */
const PAUSE_MS = 500

t.test('the broker is stopped: uploads go on, wait in the outbox, and flow when it is back', async (t) => {
  const { server, db, upload, readiness, settled } = await startBrokerWorld(t)
  const before = await upload(3)
  t.same(await readiness(), { code: 200, broker: 'up' })

  const stoppedMs = performance.now()
  await server.stop()
  const during = await upload(10)
  while (performance.now() - stoppedMs < OUTAGE_MS) {
    const more = await upload(1)
    during.ids.push(...more.ids)
    during.slowestMs = Math.max(during.slowestMs, more.slowestMs)
    await wait(PAUSE_MS)
  }
  t.ok(during.slowestMs < UPLOAD_MS_MAX, `the slowest upload took ${Math.round(during.slowestMs)} ms`)
  t.same(await readiness(), { code: 200, broker: 'degraded' })
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from outbox`.execute(db)
  t.ok((rows[0]?.n ?? 0) >= during.ids.length * 2, 'the work waits in the outbox')

  await server.start()
  const startedMs = performance.now()
  await settled([...before.ids, ...during.ids])
  t.comment(`${during.ids.length} uploads, the slowest ${Math.round(during.slowestMs)} ms; drained in ${Math.round(performance.now() - startedMs)} ms`)
  await eventually('readiness', async () => ((await readiness()).broker === 'up' ? true : undefined))
})

t.test('the broker is killed in mid-work: its queues are durable, and nothing is lost', async (t) => {
  const { server, upload, settled } = await startBrokerWorld(t)
  const before = await upload(8)
  await server.kill()
  const during = await upload(2)
  await server.start()
  await settled([...before.ids, ...during.ids])
})
