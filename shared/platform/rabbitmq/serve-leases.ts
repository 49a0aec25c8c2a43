import type { AsyncMessage, Channel } from 'rabbitmq-client'
import type { LeaseRequests } from '../id-lease/lease-requests.ts'
import type { LeaseSource } from '../id-lease/lease-source.ts'
import type { Logger } from '../logger/logger.ts'
import type { Broker } from './broker.ts'
import { LEASE_MESSAGE, readCall, toBytes, type LeaseCall, type LeaseReply } from './lease-protocol.ts'
import { subscribe, type Session } from './subscription.ts'
import { LEASE_QUEUE } from './topology.ts'

/** The ledger takes one grant at a time anyway; what waits here can no longer expire at the broker. */
const PREFETCH_REQUESTS = 4

/** Lease requests that come by the broker. */
export function rabbitLeaseRequests(broker: Broker, log: Logger): LeaseRequests {
  return { serve: (ledger) => serveLeases(broker, ledger, log) }
}

/**
 * Answers lease requests from the ledger. Several may do so at once: each request goes to one of them. A request is
 * acknowledged before it is answered, so that one whose server dies is not granted twice; its caller asks elsewhere.
 */
export function serveLeases(broker: Broker, ledger: LeaseSource, log: Logger): { close(): Promise<void> } {
  let replies: Promise<Channel> | undefined

  async function serve(message: AsyncMessage, session: Session): Promise<void> {
    session.ack(message.deliveryTag)
    const reply = await decide(message.body)
    try {
      const channel = await replyChannel()
      const envelope = { ...LEASE_MESSAGE, exchange: '', routingKey: message.replyTo ?? '' }
      await channel.basicPublish({ ...envelope, correlationId: message.correlationId ?? '' }, toBytes(reply))
    } catch (error) {
      log.warn({ err: error }, 'could not send the answer to a lease request')
    }
  }

  async function decide(body: unknown): Promise<LeaseReply> {
    try {
      if (!Buffer.isBuffer(body)) throw new Error('not a request for a lease')
      return await perform(ledger, readCall(body))
    } catch (error) {
      log.warn({ err: error }, 'a lease request failed')
      return { answer: 'failed', reason: error instanceof Error ? error.message : String(error) }
    }
  }

  function replyChannel(): Promise<Channel> {
    replies ??= broker.publishing.channel().then(
      (channel) => {
        channel.once('close', () => (replies = undefined))
        return channel
      },
      (error: unknown) => {
        replies = undefined
        throw error
      },
    )
    return replies
  }

  const subscription = subscribe({
    link: broker.consuming(),
    prepare: (again) => broker.prepare(again),
    queue: LEASE_QUEUE,
    prefetch: PREFETCH_REQUESTS,
    onMessage: (message, session) => void serve(message, session),
    log,
  })
  return { close: () => subscription.close() }
}

async function perform(ledger: LeaseSource, call: LeaseCall): Promise<LeaseReply> {
  switch (call.ask) {
    case 'grant':
      return { answer: 'grant', grant: await ledger.grant({ holder: call.holder, laneWidth: call.laneWidth }) }
    case 'renew':
      return { answer: 'renew', grant: (await ledger.renew(call.leaseId)) ?? null }
    case 'release':
      await ledger.release(call.leaseId, call.usedUntilMs)
      return { answer: 'release' }
  }
}
