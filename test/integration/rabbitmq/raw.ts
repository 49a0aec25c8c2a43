import { Connection, type AsyncMessage, type Envelope } from 'rabbitmq-client'
import type { Test } from 'tap'

/** A client of the broker that knows nothing of ours; closed at teardown. */
export function openRaw(t: Test, url: string): Connection {
  const connection = new Connection({ url, retryLow: 200 })
  connection.on('error', () => undefined)
  t.teardown(() => {
    connection.unsafeDestroy()
  })
  return connection
}

/** Publishes with confirms, in order; a message that no queue takes is given back in the result. */
export async function publishRaw(connection: Connection, messages: readonly { envelope: Envelope; body: unknown }[]): Promise<void> {
  const channel = await connection.acquire()
  await channel.confirmSelect()
  await Promise.all(messages.map(({ envelope, body }) => channel.basicPublish({ durable: true, ...envelope }, body)))
  await channel.close()
}

/** Takes one message off a queue without looking at it twice; undefined when the queue is empty. */
export async function takeRaw(connection: Connection, queue: string): Promise<Pick<AsyncMessage, 'headers' | 'body' | 'messageId'> | undefined> {
  const channel = await connection.acquire()
  const message = await channel.basicGet({ queue })
  if (message !== undefined) channel.basicAck({ deliveryTag: message.deliveryTag })
  await channel.close()
  return message
}

/** Messages that wait in each queue, ready for a consumer; empty queues are left out. rabbitmqctl is seconds behind. */
export async function readyMessages(connection: Connection): Promise<Record<string, number>> {
  const queues = ['monogram.work', 'monogram.dead', 'monogram.wait.1000ms']
  const counts = await Promise.all(
    queues.map(async (queue) => {
      const { messageCount } = await connection.queueDeclare({ queue, passive: true })
      return [queue, messageCount] as const
    }),
  )
  return Object.fromEntries(counts.filter(([, count]) => count > 0))
}

/** A worker that dies with so many messages in hand: its channel ends without an answer to any. */
export async function dieHolding(connection: Connection, queue: string, count: number): Promise<void> {
  const channel = await connection.acquire()
  const delivered = Promise.withResolvers<undefined>()
  let left = count
  await channel.basicConsume({ queue }, () => {
    if (--left === 0) delivered.resolve(undefined)
  })
  await delivered.promise
  await channel.close()
}
