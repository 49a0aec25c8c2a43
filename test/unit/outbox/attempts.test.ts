import t from 'tap'
import { pickDelayMs } from '#kernel/backoff.ts'
import { EXHAUSTED_HOOK_ATTEMPTS } from '#platform/outbox/run-job.ts'
import { ATTEMPTS_MAX } from '#platform/outbox/transport.ts'
import { DELIVERY_LIMIT } from '#platform/rabbitmq/topology.ts'

/** All the waits of a message that fails each time, in seconds. */
function waitsSeconds(random: () => number): number {
  const waits = Array.from({ length: ATTEMPTS_MAX - 1 }, (_, index) => pickDelayMs(index + 1, random))
  return waits.reduce((sum, ms) => sum + ms, 0) / 1_000
}

t.test('an outage of two minutes uses up nobody’s attempts, and a hopeless job ends all the same', async (t) => {
  t.equal(waitsSeconds(() => 0), 130)
  t.equal(waitsSeconds(() => 0.999), 1_023)
})

t.test('a broker gives a message up later than we do', async (t) => {
  t.ok(DELIVERY_LIMIT > ATTEMPTS_MAX + EXHAUSTED_HOOK_ATTEMPTS)
})
