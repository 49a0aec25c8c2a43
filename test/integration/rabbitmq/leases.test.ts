import t from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { createLedger } from '#platform/id-lease/ledger.ts'
import type { LeaseSource } from '#platform/id-lease/lease-source.ts'
import { withFallback } from '#platform/id-lease/with-fallback.ts'
import { rabbitLeaseSource } from '#platform/rabbitmq/lease-source.ts'
import { serveLeases } from '#platform/rabbitmq/serve-leases.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { openNode } from '../outbox/fixture.ts'
import { openTestBroker, quiet } from './fixture.ts'

const server = await startTestBroker(t)
const REQUEST = { holder: 'test', laneWidth: 8 }

t.test('a lease is granted, renewed and given back by request and reply', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const broker = await openTestBroker(t, url)
  const desk = serveLeases(broker, createLedger(node.primary), quiet)
  const source = rabbitLeaseSource(await openTestBroker(t, url), { timeoutMs: 10_000 })
  const grants = await Promise.all([source.grant(REQUEST), source.grant(REQUEST)])
  const lanes = new Set(grants.map((grant) => grant.leaseId !== null && grant.rectangle.firstSequence))
  t.equal(lanes.size, 2, 'two lanes')
  const [first] = grants
  if (first.leaseId === null) throw new Error('no lane')
  t.match(await source.renew(first.leaseId), { leaseId: first.leaseId })
  await source.release(first.leaseId, first.rectangle.fromMs)
  t.equal(await source.renew(first.leaseId), undefined, 'it is over')
  await t.rejects(source.grant({ holder: 'test', laneWidth: 0 }), /could not answer: A lane is/)
  await desk.close()
})

t.test('when nobody answers the call fails in time, and the fallback goes to the ledger', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const source = rabbitLeaseSource(await openTestBroker(t, url), { timeoutMs: 100 })
  await t.rejects(source.grant(REQUEST), /no id-allocator answered within 100 ms/)
  let direct = 0
  const ledger = createLedger(node.primary)
  const counted: LeaseSource = { ...ledger, grant: (request) => (direct++, ledger.grant(request)) }
  const either = withFallback(source, counted, systemClock)
  t.match(await either.grant(REQUEST), { leaseId: String })
  const startMs = performance.now()
  t.match(await either.grant(REQUEST), { leaseId: String })
  t.ok(performance.now() - startMs < 100, 'the source that failed is left alone for a while')
  t.equal(direct, 2)
})

t.test('a grant that comes too late is given back, and a request that is too old is not granted', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const ledger = createLedger(node.primary)
  const released = Promise.withResolvers<string>()
  let grants = 0
  const slow: LeaseSource = {
    ...ledger,
    async grant(request) {
      grants++
      const grant = await ledger.grant(request)
      await new Promise((resolve) => setTimeout(resolve, 400))
      return grant
    },
    async release(leaseId, usedUntilMs) {
      await ledger.release(leaseId, usedUntilMs)
      released.resolve(leaseId)
    },
  }
  const source = rabbitLeaseSource(await openTestBroker(t, url), { timeoutMs: 200 })
  await t.rejects(source.grant(REQUEST), /no id-allocator/)
  const desk = serveLeases(await openTestBroker(t, url), slow, quiet)
  t.teardown(() => desk.close())
  await t.rejects(source.grant(REQUEST), /no id-allocator/)
  t.type(await released.promise, 'string')
  t.equal(grants, 1, 'the first request had expired in the queue')
})
