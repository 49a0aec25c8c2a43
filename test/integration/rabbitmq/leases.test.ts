import t from 'tap'
import { createLedger } from '#platform/id-lease/ledger.ts'
import type { LeaseSource } from '#platform/id-lease/lease-source.ts'
import { withFallback } from '#platform/id-lease/with-fallback.ts'
import { rabbitLeaseSource } from '#platform/rabbitmq/lease-source.ts'
import { serveLeases } from '#platform/rabbitmq/serve-leases.ts'
import { LEASE_QUEUE } from '#platform/rabbitmq/topology.ts'
import { eventually } from '../../support/eventually.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { openNode } from '../outbox/fixture.ts'
import { openTestBroker, quiet } from './fixture.ts'
import { openRaw } from './raw.ts'

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
  const asked: string[] = []
  const counted = (name: string, counts: LeaseSource): LeaseSource => ({ ...counts, grant: (request) => (asked.push(name), counts.grant(request)) })
  const either = withFallback(counted('broker', source), counted('ledger', createLedger(node.primary)), { monotonicMs: () => 0 })
  t.match(await either.grant(REQUEST), { leaseId: String })
  t.match(await either.grant(REQUEST), { leaseId: String })
  t.same(asked, ['broker', 'ledger', 'ledger'], 'the source that failed is left alone for a while')
})

t.test('a grant that comes too late is given back, and a request that is too old is not granted', async (t) => {
  const { url } = await server.vhost()
  const node = await openNode(t)
  const ledger = createLedger(node.primary)
  const released = Promise.withResolvers<string>()
  const callersGone = Promise.withResolvers<undefined>()
  const granted: string[] = []
  const late: LeaseSource = {
    ...ledger,
    async grant(request) {
      granted.push(request.holder)
      const grant = await ledger.grant(request)
      await callersGone.promise
      return grant
    },
    async release(leaseId, usedUntilMs) {
      await ledger.release(leaseId, usedUntilMs)
      released.resolve(leaseId)
    },
  }
  const source = rabbitLeaseSource(await openTestBroker(t, url), { timeoutMs: 200 })
  const raw = openRaw(t, url)
  const ask = (holder: string): Promise<unknown> => t.rejects(source.grant({ ...REQUEST, holder }), /no id-allocator/)
  // The first opens the way for the second.
  for (let i = 0; i < 2; i++) await ask('early')
  await eventually('the end of the early requests', async () => {
    const { messageCount } = await raw.queueDeclare({ queue: LEASE_QUEUE, passive: true })
    return messageCount === 0 ? true : undefined
  })
  const desk = serveLeases(await openTestBroker(t, url), late, quiet)
  t.teardown(() => desk.close())
  // Until the desk is open requests expire as the early ones did.
  while (granted.length === 0) await ask('late')
  callersGone.resolve(undefined)
  t.type(await released.promise, 'string')
  t.notOk(granted.includes('early'), 'those requests had expired in the queue')
})
