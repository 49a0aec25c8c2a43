import t from 'tap'
import { eventually } from '../support/eventually.ts'
import type { Alarm } from '../support/rabbitmq.ts'
import { startBrokerWorld } from './broker-world.ts'

const UPLOAD_MS_MAX = 1_000
const ALARMS: Alarm[] = ['memory', 'disk']

t.test('an alarm, of memory or of disk: no request waits on a publish, readiness says degraded, and it ends by itself', async (t) => {
  const { server, upload, readiness, settled } = await startBrokerWorld(t)
  const { ids } = await upload(2)
  for (const alarm of ALARMS) {
    await server.alarm(alarm)
    // The broker tells a connection of the alarm at its first publish.
    const during = await upload(10)
    t.ok(during.slowestMs < UPLOAD_MS_MAX, `${alarm}: the slowest upload took ${Math.round(during.slowestMs)} ms`)
    await eventually('degraded', async () => ((await readiness()).broker === 'degraded' ? true : undefined))
    t.equal((await readiness()).code, 200)
    const later = await upload(3)
    t.ok(later.slowestMs < UPLOAD_MS_MAX)
    ids.push(...during.ids, ...later.ids)

    await server.calm(alarm)
    await settled(ids)
    t.same(await readiness(), { code: 200, broker: 'up' })
  }
})
