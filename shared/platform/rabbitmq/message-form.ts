import type { AsyncMessage, Envelope } from 'rabbitmq-client'
import type { Delivery, Failure } from '../outbox/transport.ts'

/** A message on its way to an exchange, as it looks on the wire. */
export interface WireMessage {
  readonly exchange: string
  /** The name of the message's queue, on every exchange. */
  readonly queue: string
  readonly messageId: string
  readonly event: string
  /** JSON, as bytes: what came from the database or the broker is passed on, never parsed and written again. */
  readonly body: Buffer
  readonly requestId: string | null
  readonly enqueuedAt: Date
  /** The node in whose outbox it was. */
  readonly node: string
  /** Attempts that have failed or died before. */
  readonly attempts: number
  readonly failure: Failure | null
}

/** A message from the broker: what a handler needs, and what it takes to send it on. */
export interface Received {
  readonly delivery: Delivery
  readonly wire: WireMessage
  /** Deliveries of this very message that ended with their consumer. */
  readonly crashes: number
}

/** A message's detail beyond this many characters is cut: headers share one frame. */
const DETAIL_CHARACTERS_MAX = 2_000

/** The envelope of a message: persistent, and returned to us if no queue takes it. */
export function toEnvelope(message: WireMessage): Envelope {
  const { exchange, queue, messageId, event, requestId, enqueuedAt, node, attempts, failure } = message
  return {
    exchange,
    routingKey: queue,
    mandatory: true,
    durable: true,
    contentType: 'application/json',
    // With an encoding the library hands the bytes over as they are, and we parse them once.
    contentEncoding: 'utf-8',
    messageId,
    type: event,
    timestamp: Math.floor(enqueuedAt.getTime() / 1_000),
    ...(requestId !== null && { correlationId: requestId }),
    headers: {
      node,
      ...(attempts > 0 && { attempts }),
      ...(failure !== null && { cause: failure.cause, detail: failure.detail.slice(0, DETAIL_CHARACTERS_MAX) }),
    },
  }
}

/**
 * Reads a message whatever is in it: fields that are missing or of another type become empty, so that a stranger's
 * message ends as a dead letter and not as an error.
 */
export function fromMessage(message: AsyncMessage): Received {
  const headers: Record<string, unknown> = message.headers ?? {}
  const body = Buffer.isBuffer(message.body) ? message.body : Buffer.from(JSON.stringify(message.body ?? null))
  const cause = text(headers['cause'])
  const crashes = count(headers['x-delivery-count'])
  const wire: WireMessage = {
    exchange: message.exchange,
    queue: message.routingKey,
    messageId: message.messageId ?? '',
    event: message.type ?? '',
    body,
    requestId: message.correlationId ?? null,
    enqueuedAt: new Date((message.timestamp ?? 0) * 1_000),
    node: text(headers['node']),
    attempts: count(headers['attempts']),
    failure: cause === '' ? null : { cause, detail: text(headers['detail']) },
  }
  return {
    wire,
    crashes,
    delivery: {
      messageId: wire.messageId,
      event: wire.event,
      body: parse(body),
      requestId: wire.requestId,
      // The broker counts the deliveries that ended with their consumer: a crash counts.
      attempt: wire.attempts + crashes + 1,
      lastFailure: wire.failure,
    },
  }
}

/** Undefined, which no contract allows, for what is not JSON. */
function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString()) as unknown
  } catch {
    return undefined
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function count(value: unknown): number {
  const number = Number(value)
  return Number.isInteger(number) && number > 0 ? number : 0
}
