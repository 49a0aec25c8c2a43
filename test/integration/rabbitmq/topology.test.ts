import { DELAY_STEPS_MS } from '#kernel/backoff.ts'
import t from 'tap'
import type { Logger } from '#platform/logger/logger.ts'
import { openBroker } from '#platform/rabbitmq/broker.ts'
import { topologyOf } from '#platform/rabbitmq/topology.ts'
import { eventually } from '../../support/eventually.ts'
import { startFaultProxy } from '../../support/fault-proxy.ts'
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

t.test('the broker itself says that nothing is dropped: every queue with its arguments', async (t) => {
  const { url, control } = await server.vhost()
  await openTestBroker(t, url, { topology: topologyOf(['work']) })
  const listed = JSON.parse(await control('list_queues', '--formatter', 'json', 'name', 'arguments')) as ListedQueue[]
  const found = listed.map(({ name, arguments: args }) => [name, Object.fromEntries(args.map(([key, , value]) => [key, value]))])
  const quorum = { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish', 'x-max-length': 1_000_000 }
  const lettersTo = (exchange: string) => ({ ...quorum, 'x-dead-letter-exchange': exchange, 'x-dead-letter-strategy': 'at-least-once' })
  t.strictSame(Object.fromEntries(found), Object.fromEntries([
    ['monogram.dead', { ...quorum, 'x-single-active-consumer': true, 'x-delivery-limit': 1_000_000 }],
    ['monogram.work', { ...lettersTo('monogram.dead'), 'x-delivery-limit': 20 }],
    ...DELAY_STEPS_MS.map((ms) => [`monogram.wait.${ms}ms`, { ...lettersTo('monogram.work'), 'x-message-ttl': ms }]),
    ['monogram.leases', { 'x-queue-type': 'classic', 'x-message-ttl': 5_000, 'x-max-length': 10_000 }],
  ]))
})

t.test('a dead peer is noticed by heartbeats of ten seconds, on every connection', async (t) => {
  const { url } = await server.vhost()
  await openTestBroker(t, url)
  const vhost = url.slice(url.lastIndexOf('/') + 1)
  const lines = (await server.control('list_connections', '--no-table-headers', 'vhost', 'timeout')).trim().split('\n')
  const timeouts = lines.map((line) => line.split('\t')).flatMap(([name, timeout]) => (name === vhost ? [timeout] : []))
  t.ok(timeouts.length > 0, `${timeouts.length} connections`)
  t.same([...new Set(timeouts)], ['10'])
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

/** Bytes of answers that still come once the connection is made: none, or some of those about the topology. */
for (const afterBytes of [0, 100]) {
  t.test(`a broker that falls silent ${afterBytes} bytes after the handshake keeps no process from starting`, async (t) => {
    const { url } = await server.vhost()
    const proxy = await startFaultProxy(t, server.port)
    const lines: string[] = []
    const log = watchLog((line, error) => {
      if (line === 'connected to the broker') proxy.set({ kind: 'black-hole', afterBytes })
      if (error !== undefined) lines.push(error.message)
    })
    const at = url.replace(`:${server.port}/`, `:${proxy.port}/`)
    const broker = await openTestBroker(t, at, { log, topologyDeadlineMs: 200 })
    t.equal(broker.health(), 'degraded')
    const waited = lines.filter((line) => line.startsWith('The broker has not answered within'))
    t.match(waited[0], afterBytes === 0 ? /5000 ms: opening a channel/ : /200 ms: declaring monogram\./)
    // Only the silence ends the boot, not the loss of the connection, which takes heartbeats longer to notice.
    t.equal(broker.publishing.state, 'up')

    // The connection is of no use any more: its stream has a hole.
    proxy.set({ kind: 'refuse' })
    log.info = quiet.info
    proxy.set({ kind: 'none' })
    await eventually('the topology is in place', async () => Promise.resolve(broker.health() === 'ok' || undefined))
  })
}

t.test('a broker that accepts a connection and says nothing keeps no process from starting', async (t) => {
  const { url } = await server.vhost()
  const proxy = await startFaultProxy(t, server.port)
  proxy.set({ kind: 'black-hole' })
  const broker = await openTestBroker(t, url.replace(`:${server.port}/`, `:${proxy.port}/`))
  t.equal(broker.health(), 'degraded')
})

interface ListedQueue {
  readonly name: string
  /** Of each, its name, its type on the wire and its value. */
  readonly arguments: readonly (readonly [string, string, string | number | boolean])[]
}

/** A silent log that calls `onLine` with what it is told. */
function watchLog(onLine: (line: string, error: Error | undefined) => void): Logger {
  const log = Object.create(quiet) as Logger
  log.info = log.warn = (facts: { err?: Error }, line?: string) => onLine(line ?? '', facts.err)
  return log
}
