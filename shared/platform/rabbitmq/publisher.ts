import type { Channel, ReturnedMessage } from 'rabbitmq-client'
import type { Logger } from '../logger/logger.ts'
import type { BrokerMetrics, PublishEnd } from './broker-metrics.ts'
import type { Link } from './link.ts'
import { toEnvelope, type WireMessage } from './message-form.ts'
import { answerWithin, within } from './within.ts'

/** Publishes with confirms, many under way at once. */
export interface Publisher {
  /** True while publishing is worth a try: connected, not blocked, topology in place. */
  readonly ready: boolean
  /** Settles when the first try to get ready has ended, well or badly. */
  readonly firstTry: Promise<void>
  /** Calls `listener` whenever `ready` becomes true. */
  onReady(listener: () => void): void
  /** Says how it ended, within the deadline. Whatever is not `confirmed` may have been taken nevertheless. */
  publish(message: WireMessage): Promise<PublishEnd>
  /** Publishes no more; what is under way ends as `lost`. */
  close(): Promise<void>
}

export interface PublisherOptions {
  readonly link: Link
  /** Puts the topology in place; called before each new channel is used. */
  readonly prepare: () => Promise<void>
  /** Messages under way at once, sent and not confirmed. */
  readonly windowMessages: number
  readonly deadlineMs: number
  readonly log: Logger
  readonly metrics: BrokerMetrics
}

const REOPEN_MS = 1_000
const CLOSE_MS = 1_000
const CONFIRM_SELECT_MS = 5_000
/** How many times per deadline we look for publishes that are late. */
const LOOKS_PER_DEADLINE = 10

interface Flight {
  readonly message: WireMessage
  readonly untilMs: number
  readonly end: (end: PublishEnd) => void
  isReturned: boolean
}

/** One channel in confirm mode and what is under way on it; all of it ends with the channel. */
interface Session {
  readonly channel: Channel
  readonly flights: Set<Flight>
}

/**
 * A publisher on one channel at a time, opened anew whenever the link comes back.
 *
 * A flight that is late has ended for its caller but keeps its place in the window until the broker answers or the
 * channel ends: under an alarm the broker reads nothing, and whatever we went on sending would only pile up.
 */
export function createPublisher(options: PublisherOptions): Publisher {
  const { link, prepare, windowMessages, deadlineMs, log, metrics } = options
  const listeners: (() => void)[] = []
  const waiting: Flight[] = []
  const settleConfirmed = createConfirmQueue()
  let session: Session | undefined
  let opening: Promise<void> | undefined
  let reopen: NodeJS.Timeout | undefined
  let closed = false

  const isReady = (): boolean => !closed && session !== undefined && link.state === 'up'

  function open(): void {
    clearTimeout(reopen)
    if (closed || session !== undefined || link.state !== 'up') return
    opening ??= openSession()
      .catch((error: unknown) => {
        log.warn({ err: error }, 'cannot publish to the broker yet')
        reopen = setTimeout(open, REOPEN_MS)
      })
      .finally(() => {
        opening = undefined
      })
  }

  async function openSession(): Promise<void> {
    await prepare()
    const channel = await link.channel()
    await answerWithin(channel.confirmSelect(), CONFIRM_SELECT_MS, () => 'asking for confirms').catch((error: unknown) => {
      void channel.close()
      throw error
    })
    const opened: Session = { channel, flights: new Set() }
    channel.on('basic.return', (returned) => markReturned(opened, returned))
    channel.once('close', () => {
      if (session === opened) session = undefined
      for (const flight of [...opened.flights, ...waiting.splice(0)]) flight.end('lost')
      opened.flights.clear()
      open()
    })
    if (!channel.active) throw new Error('the channel closed while it was opened')
    session = opened
    announce()
  }

  function announce(): void {
    if (isReady()) for (const listener of listeners) listener()
  }

  function send({ channel, flights }: Session, flight: Flight): void {
    flights.add(flight)
    link.gather()
    const { message } = flight
    const land = (end: PublishEnd): void => {
      if (!flights.delete(flight)) return
      flight.end(end)
      sendWaiting()
    }
    channel.basicPublish(toEnvelope(message), message.body).then(
      () => settleConfirmed(() => land(flight.isReturned ? 'returned' : 'confirmed')),
      (error: unknown) => land(isNack(error) ? 'refused' : 'lost'),
    )
  }

  function sendWaiting(): void {
    while (session !== undefined && session.flights.size < windowMessages) {
      const flight = waiting.shift()
      if (flight === undefined) return
      send(session, flight)
    }
  }

  /** Ends what is late, oldest first: both lists are in the order of their deadlines. */
  function endLate(): void {
    const nowMs = performance.now()
    for (const list of [session?.flights ?? [], waiting]) {
      for (const flight of list) {
        if (flight.untilMs > nowMs) break
        flight.end('late')
      }
    }
    while (waiting[0] !== undefined && waiting[0].untilMs <= nowMs) waiting.shift()
  }

  const looking = setInterval(endLate, deadlineMs / LOOKS_PER_DEADLINE)
  link.onChange((state) => {
    metrics.linked(state)
    if (state !== 'up') return
    open()
    announce()
  })
  open()

  return {
    firstTry: opening ?? Promise.resolve(),
    get ready() {
      return isReady()
    },
    onReady: (listener) => void listeners.push(listener),
    publish(message) {
      const { promise, resolve } = Promise.withResolvers<PublishEnd>()
      let isOver = false
      const flight: Flight = {
        message,
        untilMs: performance.now() + deadlineMs,
        isReturned: false,
        end(end) {
          if (isOver) return
          isOver = true
          metrics.published(end)
          resolve(end)
        },
      }
      if (session === undefined || !isReady()) flight.end('lost')
      else if (session.flights.size < windowMessages) send(session, flight)
      else waiting.push(flight)
      return promise
    },
    async close() {
      closed = true
      clearInterval(looking)
      clearTimeout(reopen)
      await within(opening, CLOSE_MS)
      for (const flight of [...(session?.flights ?? []), ...waiting.splice(0)]) flight.end('lost')
      await within(session?.channel.close(), CLOSE_MS)
    },
  }
}

/** The broker sends a return before the confirm of the same message. Two of the same in one window both count. */
function markReturned({ flights }: Session, { messageId, exchange, routingKey }: ReturnedMessage): void {
  for (const flight of flights) {
    const { message } = flight
    if (message.messageId !== messageId || message.queue !== routingKey || message.exchange !== exchange) continue
    flight.isReturned = true
  }
}

function isNack(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'NACK'
}

/**
 * Runs what it is given after every return that the broker sent before. The library tells of a return in a
 * `setImmediate` of its own, but of the confirm behind it at once: an entry therefore waits until an immediate
 * has passed that was set after it.
 */
function createConfirmQueue(): (land: () => void) => void {
  let fresh: (() => void)[] = []
  let ripe: (() => void)[] = []

  function pass(): void {
    const landing = ripe
    ripe = fresh
    fresh = []
    if (ripe.length > 0) setImmediate(pass)
    for (const land of landing) land()
  }

  return (land) => {
    if (fresh.length + ripe.length === 0) setImmediate(pass)
    fresh.push(land)
  }
}
