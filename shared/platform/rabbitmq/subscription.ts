import type { AsyncMessage, Channel } from 'rabbitmq-client'
import { endWithin } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import { createAckGroups } from './ack-groups.ts'
import { answerWithin } from './broker-silent.ts'
import type { Link } from './link.ts'

/** One channel's worth of deliveries: when it ends, the broker delivers anew what was not acknowledged on it. */
export interface Session {
  readonly channel: Channel
  /** Aborted when the channel is gone. */
  readonly ended: AbortSignal
  /** Deliveries that are not acknowledged. */
  readonly unsettled: number
  ack(tag: number): void
}

/** Consuming of one queue, on one channel after another for as long as it is not closed. */
export interface Subscription {
  /** Undefined while there is no connection. */
  readonly session: Session | undefined
  /** Takes no more messages; those delivered may still be acknowledged. Bounded by `RPC_MS`. */
  cancel(): Promise<void>
  /** Ends the channel: the broker gives what is not acknowledged to others. Bounded by `RPC_MS`. */
  close(): Promise<void>
}

export interface SubscriptionOptions {
  readonly link: Link
  /** Puts the topology in place; called before each new channel, and `again` after the broker said that the queue is gone. */
  readonly prepare: (again: boolean) => Promise<void>
  /** The broker's name of the queue. */
  readonly queue: string
  /** Messages delivered and not acknowledged at once. */
  readonly prefetch: number
  readonly onMessage: (message: AsyncMessage, session: Session) => void
  readonly log: Logger
  /** After so long without a message the channel is opened anew. */
  readonly idleMs?: number
}

/**
 * The broker may believe that it delivers to a consumer which gets nothing (a queue that was deleted and made anew in one
 * moment): whoever had nothing for so long makes sure.
 */
const IDLE_MS = 30_000
const REOPEN_MS_MIN = 200
const REOPEN_MS_MAX = 5_000
const RPC_MS = 1_000
const CONSUME_MS = 5_000

/** RabbitMQ's answer to whoever consumes from a queue that is not there. */
function isNotFound(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'NOT_FOUND'
}

/** Subscribes now or as soon as the broker is there, and again whenever the channel or the connection was lost. */
export function subscribe({ link, prepare, queue, prefetch, onMessage, log, idleMs = IDLE_MS }: SubscriptionOptions): Subscription {
  let session: Session | undefined
  let consumerTag: string | undefined
  let opening: Promise<void> | undefined
  let reopen: NodeJS.Timeout | undefined
  let reopenMs = REOPEN_MS_MIN
  let isGone = false
  let cancelled = false

  function open(): void {
    clearTimeout(reopen)
    if (cancelled || session !== undefined || link.state === 'down') return
    opening ??= openSession()
      .then(() => {
        reopenMs = REOPEN_MS_MIN
        isGone = false
      })
      .catch((error: unknown) => {
        log.warn({ err: error, queue, retryInMs: reopenMs }, 'cannot consume yet')
        isGone ||= isNotFound(error)
        openLater()
      })
      .finally(() => {
        opening = undefined
      })
  }

  function openLater(): void {
    if (cancelled) return
    clearTimeout(reopen)
    reopen = setTimeout(open, reopenMs)
    reopenMs = Math.min(reopenMs * 2, REOPEN_MS_MAX)
  }

  async function openSession(): Promise<void> {
    await prepare(isGone)
    const channel = await link.channel()
    const end = new AbortController()
    const acks = createAckGroups((deliveryTag, multiple) => {
      link.gather()
      if (channel.active) channel.basicAck({ deliveryTag, multiple })
    })
    const opened: Session = {
      channel,
      ended: end.signal,
      get unsettled() {
        return acks.unsettled
      },
      ack: (tag) => acks.settled(tag),
    }
    /** False when it was left before. */
    const leave = (): boolean => {
      clearInterval(idle)
      end.abort()
      if (session !== opened) return false
      session = undefined
      return true
    }
    let isIdle = true
    const idle = setInterval(() => {
      if (isIdle && acks.unsettled === 0 && session === opened) {
        acks.flush()
        // The broker may never answer; what it still delivers here it delivers again, once it has.
        void channel.close()
        leave()
        open()
      }
      isIdle = true
    }, idleMs).unref()
    channel.once('close', () => {
      if (leave()) openLater()
    })
    // The queue was deleted, or its node is going away.
    channel.once('basic.cancel', () => {
      isGone = true
      void channel.close()
    })
    try {
      const consume = async (): Promise<void> => {
        await channel.basicQos({ prefetchCount: prefetch })
        const consumed = await channel.basicConsume({ queue }, (message) => {
          if (end.signal.aborted) return
          isIdle = false
          acks.arrived(message.deliveryTag)
          onMessage(message, opened)
        })
        consumerTag = consumed.consumerTag
      }
      await answerWithin(consume(), CONSUME_MS, () => `consuming ${queue}`)
      if (end.signal.aborted) throw new Error('the channel closed while it was opened')
    } catch (error) {
      end.abort()
      void channel.close()
      throw error
    }
    session = opened
  }

  const stopWatching = link.onChange((state) => {
    if (state !== 'down') open()
  })
  open()

  async function cancel(): Promise<void> {
    cancelled = true
    stopWatching()
    clearTimeout(reopen)
    await endWithin(opening, RPC_MS)
    const { channel } = session ?? {}
    if (channel?.active !== true || consumerTag === undefined) return
    const tag = consumerTag
    consumerTag = undefined
    await endWithin(channel.basicCancel(tag), RPC_MS)
  }

  return {
    get session() {
      return session
    },
    cancel,
    async close() {
      await cancel()
      // Acknowledgements of this turn of the event loop go first.
      await new Promise((resolve) => setImmediate(resolve))
      await endWithin(session?.channel.close(), RPC_MS)
    },
  }
}
