import type { Channel } from 'rabbitmq-client'
import t from 'tap'
import type { Link } from '#platform/rabbitmq/link.ts'
import { subscribe, type Subscription } from '#platform/rabbitmq/subscription.ts'
import { eventually } from '../../support/eventually.ts'
import { startTestBroker } from '../../support/rabbitmq.ts'
import { openTestBroker, quiet } from './fixture.ts'
import { openRaw, publishRaw, readyMessages } from './raw.ts'

const server = await startTestBroker(t)
const QUEUE = 'monogram.work'
const MESSAGES = 300

t.test('a subscription that had nothing for a while is made anew, again and again, and misses nothing', async (t) => {
  const { url } = await server.vhost()
  const broker = await openTestBroker(t, url)
  const seen = new Set<unknown>()
  const subscription: Subscription = subscribe({
    link: broker.consuming(),
    prepare: (again) => broker.prepare(again),
    queue: QUEUE,
    prefetch: 10,
    onMessage(message, session) {
      seen.add(message.body)
      session.ack(message.deliveryTag)
    },
    log: quiet,
    idleMs: 20,
  })
  t.teardown(() => subscription.close())
  const sessions = new Set<unknown>()
  const anew = async (count: number): Promise<void> => {
    await eventually('other channels', async () => {
      if (subscription.session !== undefined) sessions.add(subscription.session)
      return Promise.resolve(sessions.size >= count || undefined)
    })
  }
  await anew(2)
  const raw = openRaw(t, url)
  for (let number = 0; number < MESSAGES; number++) {
    await publishRaw(raw, [{ envelope: { exchange: '', routingKey: QUEUE }, body: String(number) }])
  }
  await eventually('every message', async () => Promise.resolve(seen.size === MESSAGES || undefined))
  await anew(sessions.size + 2)
  t.same(await readyMessages(raw), {})
})

t.test('it is made anew though the broker never answers that the old channel is closed', async (t) => {
  const { url } = await server.vhost()
  const broker = await openTestBroker(t, url)
  const link = broker.consuming()
  const silently = async (): Promise<Channel> => {
    const channel = await link.channel()
    channel.close = () => new Promise(() => {})
    return channel
  }
  const subscription = subscribe({
    link: Object.create(link, { channel: { value: silently } }) as Link,
    prepare: (again) => broker.prepare(again),
    queue: QUEUE,
    prefetch: 10,
    onMessage: () => t.fail('there are no messages'),
    log: quiet,
    idleMs: 20,
  })
  t.teardown(() => subscription.close())
  const first = await eventually('a session', async () => Promise.resolve(subscription.session))
  const second = await eventually('another', async () => Promise.resolve(subscription.session === first ? undefined : subscription.session))
  t.equal(first.ended.aborted, true)
  t.not(second.channel, first.channel)
})

t.test('one whose messages are at work stays', async (t) => {
  const { url } = await server.vhost()
  const broker = await openTestBroker(t, url)
  const { promise: begun, resolve: begin } = Promise.withResolvers<() => void>()
  const subscription = subscribe({
    link: broker.consuming(),
    prepare: (again) => broker.prepare(again),
    queue: QUEUE,
    prefetch: 10,
    onMessage: (message, session) => begin(() => session.ack(message.deliveryTag)),
    log: quiet,
    idleMs: 5,
  })
  t.teardown(() => subscription.close())
  await publishRaw(openRaw(t, url), [{ envelope: { exchange: '', routingKey: QUEUE }, body: 'slow' }])
  const finish = await begun
  const { session } = subscription
  // So many round trips take longer than it may be idle.
  for (let trip = 0; trip < 50; trip++) await session?.channel.queueDeclare({ queue: QUEUE, passive: true })
  t.equal(subscription.session, session)
  t.equal(session?.ended.aborted, false)
  finish()
  await eventually('another channel', async () => Promise.resolve((subscription.session !== undefined && subscription.session !== session) || undefined))
})
