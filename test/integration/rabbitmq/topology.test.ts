import { DELAY_STEPS_MS } from '#kernel/backoff.ts'
import t from 'tap'
import { openBroker } from '#platform/rabbitmq/broker.ts'
import { topologyOf } from '#platform/rabbitmq/topology.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { openTestBroker, quiet } from './fixture.ts'
import { openRaw } from './raw.ts'

const server = await startTestBroker(t)

t.test('everything is declared at boot, durable, and a second boot changes nothing', async (t) => {
  const { url, control } = await server.vhost()
  const topology = topologyOf(['thumbnail', 'fanout.bulk'])
  await openTestBroker(t, url, { topology })
  const list = () => control('list_queues', '--no-table-headers', 'name', 'type', 'durable')
  const before = await list()
  const quorum = [
    'monogram.dead',
    'monogram.fanout.bulk',
    'monogram.thumbnail',
    ...DELAY_STEPS_MS.map((ms) => `monogram.wait.${ms}ms`),
  ]
  t.same(before.trim().split('\n').sort(), [...quorum.map((name) => `${name}\tquorum\ttrue`), 'monogram.leases\tclassic\ttrue'].sort())
  await openTestBroker(t, url, { topology })
  t.equal(await list(), before)
})

t.test('a queue with other arguments ends the boot with its name, the argument and the cure', async (t) => {
  const { url } = await server.vhost()
  const raw = openRaw(t, url)
  await raw.queueDeclare({ queue: 'monogram.work', durable: true, arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 } })
  const boot = openBroker({ url, topology: topologyOf(['work'], []), name: 'test', log: quiet })
  await t.rejects(boot, {
    name: 'TopologyError',
    message: /^The queue monogram\.work on the broker was made with another "x-[a-z-]+": it has .+, and we need .+delete_queue monogram\.work/,
  })
})

t.test('an old queue of another type is told of as well', async (t) => {
  const { url } = await server.vhost()
  await openRaw(t, url).queueDeclare({ queue: 'monogram.work', durable: true, arguments: { 'x-queue-type': 'classic' } })
  const boot = openBroker({ url, topology: topologyOf(['work'], []), name: 'test', log: quiet })
  await t.rejects(boot, { name: 'TopologyError', message: /monogram\.work .*"x-[a-z-]+"/ })
})

t.test('a wrong password or virtual host ends the boot; a broker that is away does not', async (t) => {
  const { url } = await server.vhost()
  const open = (at: string) => openBroker({ url: at, topology: topologyOf(['work'], []), name: 'test', log: quiet })
  await t.rejects(open(url.replace('guest:guest', 'guest:wrong')), /The broker refuses us: .*ACCESS_REFUSED|refuses us/i)
  await t.rejects(open(url.replace(/[^/]+$/, 'nowhere')), /The broker refuses us/)
  const broker = await open('amqp://guest:guest@127.0.0.1:1/')
  t.equal(broker.health(), 'degraded')
  await broker.close()
})
