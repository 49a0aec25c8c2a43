import { randomUUID } from 'node:crypto'
import type { AsyncMessage, Channel } from 'rabbitmq-client'
import type { LeaseSource } from '../id-lease/lease-source.ts'
import type { Broker } from './broker.ts'
import { LEASE_MESSAGE, readReply, toBytes, type LeaseCall, type LeaseReply } from './lease-protocol.ts'
import { LEASE_QUEUE } from './topology.ts'

export interface RabbitLeaseSourceOptions {
  /** For one answer; leave the caller time to ask elsewhere. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 1_000
/** RabbitMQ's pseudo-queue: answers come back on the channel that asked, and no queue has to be made. */
const REPLY_TO = 'amq.rabbitmq.reply-to'

interface Asked {
  readonly settle: (reply: LeaseReply | Error) => void
  /** Undefined until it is known on which channel the request goes. */
  channel: Promise<Channel> | undefined
}

/**
 * Leases by request and reply from an id-allocator. Throws from every call when none answers in time, when there is no
 * connection, or when the allocator's ledger failed. A grant that arrives after its caller has gone is given back.
 */
export function rabbitLeaseSource(broker: Broker, { timeoutMs = TIMEOUT_MS }: RabbitLeaseSourceOptions = {}): LeaseSource {
  const waiting = new Map<string, Asked>()
  let channel: Promise<Channel> | undefined

  function currentChannel(): Promise<Channel> {
    if (channel !== undefined) return channel
    // The end of an old channel may be told when the next is open, which it must not touch.
    const mine = openChannel(() => {
      if (channel === mine) channel = undefined
      for (const [id, asked] of waiting) {
        if (asked.channel === mine) answer(id, new Error('the connection to the broker was lost'))
      }
    })
    mine.catch(() => {
      if (channel === mine) channel = undefined
    })
    channel = mine
    return mine
  }

  async function openChannel(onClose: () => void): Promise<Channel> {
    await broker.prepare()
    const opened = await broker.publishing.channel()
    opened.once('close', onClose)
    opened.on('basic.return', ({ correlationId = '' }) => answer(correlationId, new Error('the broker has no queue for lease requests')))
    await opened.basicConsume({ queue: REPLY_TO, noAck: true }, onReply)
    return opened
  }

  function answer(id: string, reply: LeaseReply | Error): void {
    waiting.get(id)?.settle(reply)
    waiting.delete(id)
  }

  function onReply({ correlationId = '', body }: AsyncMessage): void {
    const reply = Buffer.isBuffer(body) ? readSafely(body) : new Error('not an answer about a lease')
    if (waiting.has(correlationId)) answer(correlationId, reply)
    else if (!(reply instanceof Error) && reply.answer === 'grant' && reply.grant.leaseId !== null) {
      // Nobody will use it, and its lane would stay taken until it expires.
      ask({ ask: 'release', leaseId: reply.grant.leaseId, usedUntilMs: reply.grant.rectangle.fromMs }).catch(() => undefined)
    }
  }

  async function ask(call: LeaseCall): Promise<LeaseReply> {
    if (broker.publishing.state !== 'up') throw new Error('there is no connection to the broker')
    const id = randomUUID()
    const { promise, resolve, reject } = Promise.withResolvers<LeaseReply>()
    const settle = (reply: LeaseReply | Error): void => {
      if (reply instanceof Error) reject(reply)
      else if (reply.answer === 'failed') reject(new Error(`the id-allocator could not answer: ${reply.reason}`))
      else resolve(reply)
    }
    const timer = setTimeout(() => answer(id, new Error(`no id-allocator answered within ${timeoutMs} ms`)), timeoutMs)
    const asked: Asked = { settle, channel: undefined }
    waiting.set(id, asked)
    const fail = (error: unknown): void => answer(id, error instanceof Error ? error : new Error(String(error)))
    send(id, call, asked).catch(fail)
    return promise.finally(() => clearTimeout(timer))
  }

  async function send(id: string, call: LeaseCall, asked: Asked): Promise<void> {
    asked.channel = currentChannel()
    const envelope = { ...LEASE_MESSAGE, exchange: '', routingKey: LEASE_QUEUE, mandatory: true }
    const opened = await asked.channel
    // A request that has waited longer than its caller would only take a lane for nobody.
    await opened.basicPublish({ ...envelope, replyTo: REPLY_TO, correlationId: id, expiration: String(timeoutMs) }, toBytes(call))
  }

  return {
    async grant({ holder, laneWidth }) {
      const reply = await ask({ ask: 'grant', holder, laneWidth })
      if (reply.answer !== 'grant') throw new Error('the id-allocator answered something else')
      return reply.grant
    },
    async renew(leaseId) {
      const reply = await ask({ ask: 'renew', leaseId })
      if (reply.answer !== 'renew') throw new Error('the id-allocator answered something else')
      return reply.grant ?? undefined
    },
    async release(leaseId, usedUntilMs) {
      await ask({ ask: 'release', leaseId, usedUntilMs })
    },
  }
}

function readSafely(body: Buffer): LeaseReply | Error {
  try {
    return readReply(body)
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}
