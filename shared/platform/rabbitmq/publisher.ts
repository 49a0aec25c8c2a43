import type { Channel, ReturnedMessage } from 'rabbitmq-client'
import { endWithin } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import type { BrokerMetrics, PublishEnd } from './broker-metrics.ts'
import { answerWithin } from './broker-silent.ts'
import type { Link } from './link.ts'
import { toEnvelope, type WireMessage } from './message-form.ts'

/** Where a message goes: on each exchange, a queue's name leads to one queue. */
export type Route = Pick<WireMessage, 'exchange' | 'queue'>

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
  /**
   * True while a confirm of that route is overdue: what is published there would only wait. Without a route, of any.
   */
  isSilent(route?: Route): boolean
  /** Publishes no more; what is under way ends as `lost`. */
  close(): Promise<void>
}

export interface PublisherOptions {
  readonly link: Link
  /** Puts the topology in place; called before each new channel is used. */
  readonly prepare: () => Promise<void>
  /** Messages under way at once, sent and not confirmed; one route alone has half of them. */
  readonly windowMessages: number
  readonly deadlineMs: number
  /** A confirm overdue by this is no longer waited for: the broker may have forgotten that it owes one. */
  readonly overdueMsMax: number
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

/** What goes one route, in the order of the deadlines. */
interface Lane {
  /** Sent and not answered. */
  readonly flights: Set<Flight>
  readonly waiting: Flight[]
}

/** One channel in confirm mode and what is under way on it; all of it ends with the channel. */
interface Session {
  readonly channel: Channel
  readonly lanes: Map<string, Lane>
  /** Flights of all lanes. */
  sent: number
}

/**
 * A publisher on one channel at a time, opened anew whenever the link comes back.
 *
 * A flight that is late has ended for its caller but keeps its place in the window until the broker answers or the
 * channel ends, or for minutes: under an alarm the broker reads nothing, and whatever we went on sending would only pile up.
 *
 * A route may take as many places as are still free (Choudhury and Hahne's dynamic thresholds, 1998): one whose queue
 * never confirms, for its majority is lost, takes half of the window and leaves the others theirs.
 */
export function createPublisher(options: PublisherOptions): Publisher {
  const { link, prepare, windowMessages, deadlineMs, overdueMsMax, log, metrics } = options
  const listeners: (() => void)[] = []
  const settleConfirmed = createConfirmQueue()
  let session: Session | undefined
  let upSinceMs = performance.now()
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
    const opened: Session = { channel, lanes: new Map(), sent: 0 }
    channel.on('basic.return', (returned) => markReturned(opened, returned))
    channel.once('close', () => {
      if (session === opened) session = undefined
      endAll(opened)
      open()
    })
    if (!channel.active) throw new Error('the channel closed while it was opened')
    session = opened
    announce()
  }

  function announce(): void {
    if (isReady()) for (const listener of listeners) listener()
  }

  function hasPlace({ sent }: Session, { flights }: Lane): boolean {
    return flights.size < windowMessages - sent
  }

  function send(current: Session, lane: Lane, flight: Flight): void {
    lane.flights.add(flight)
    current.sent++
    link.gather()
    const { message } = flight
    const land = (end: PublishEnd): void => {
      if (!lane.flights.delete(flight)) return
      current.sent--
      flight.end(end)
      if (current === session) sendWaiting(current)
    }
    current.channel.basicPublish(toEnvelope(message), message.body).then(
      () => settleConfirmed(() => land(flight.isReturned ? 'returned' : 'confirmed')),
      (error: unknown) => land(isNack(error) ? 'refused' : 'lost'),
    )
  }

  function sendWaiting(current: Session): void {
    for (const lane of current.lanes.values()) {
      while (hasPlace(current, lane)) {
        const flight = lane.waiting.shift()
        if (flight === undefined) break
        send(current, lane, flight)
      }
    }
  }

  function endLate(): void {
    if (session === undefined) return
    const nowMs = performance.now()
    for (const lane of session.lanes.values()) {
      for (const list of [lane.flights, lane.waiting]) {
        for (const flight of list) {
          if (flight.untilMs > nowMs) break
          flight.end('late')
        }
      }
      while (lane.waiting[0] !== undefined && lane.waiting[0].untilMs <= nowMs) lane.waiting.shift()
      if (link.state === 'up') forgetOverdue(session, lane, nowMs)
    }
    sendWaiting(session)
  }

  /** On the same channel: on a new one the first message to a queue without a majority holds up all that follow. */
  function forgetOverdue(current: Session, lane: Lane, nowMs: number): void {
    for (const flight of lane.flights) {
      if (overdueMs(flight, nowMs) <= overdueMsMax) return
      lane.flights.delete(flight)
      current.sent--
    }
  }

  /** While the broker took no publishes it owed nothing. */
  function overdueMs({ untilMs }: Flight, nowMs: number): number {
    return nowMs - Math.max(untilMs, upSinceMs)
  }

  function isOverdue([oldest]: Iterable<Flight>, nowMs: number): boolean {
    return oldest !== undefined && overdueMs(oldest, nowMs) > 0
  }

  const looking = setInterval(endLate, deadlineMs / LOOKS_PER_DEADLINE)
  link.onChange((state) => {
    metrics.linked(state)
    if (state !== 'up') return
    upSinceMs = performance.now()
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
      if (session === undefined || !isReady()) {
        flight.end('lost')
        return promise
      }
      const lane = laneOf(session, message)
      if (lane.waiting.length === 0 && hasPlace(session, lane)) send(session, lane, flight)
      else lane.waiting.push(flight)
      return promise
    },
    isSilent(route) {
      if (session === undefined) return false
      const lanes = route === undefined ? [...session.lanes.values()] : [laneOf(session, route)]
      const nowMs = performance.now()
      return lanes.some(({ flights }) => isOverdue(flights, nowMs))
    },
    async close() {
      closed = true
      clearInterval(looking)
      clearTimeout(reopen)
      await endWithin(opening, CLOSE_MS)
      if (session !== undefined) endAll(session)
      await endWithin(session?.channel.close(), CLOSE_MS)
    },
  }
}

function laneOf({ lanes }: Session, { exchange, queue }: Route): Lane {
  const key = `${exchange} ${queue}`
  let lane = lanes.get(key)
  if (lane === undefined) lanes.set(key, (lane = { flights: new Set(), waiting: [] }))
  return lane
}

function endAll({ lanes }: Session): void {
  for (const { flights, waiting } of lanes.values()) {
    for (const flight of [...flights, ...waiting.splice(0)]) flight.end('lost')
    flights.clear()
  }
}

/** The broker sends a return before the confirm of the same message. Two of the same in one window both count. */
function markReturned(session: Session, { messageId, exchange, routingKey }: ReturnedMessage): void {
  for (const flight of laneOf(session, { exchange, queue: routingKey }).flights) {
    if (flight.message.messageId === messageId) flight.isReturned = true
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
