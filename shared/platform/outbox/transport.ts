import type { Static, TSchema } from 'typebox'
import type { Logger } from '../logger/logger.ts'
import type { EventContract } from './event-contract.ts'

/**
 * After so many failed attempts a message is a dead letter, unless its consumer says otherwise. The eleven waits between
 * them (`pickDelayMs`) come to 130 s at the least, eight minutes on average and 17 at the most: a store or a database
 * that is away for two minutes makes no dead letter.
 */
export const ATTEMPTS_MAX = 12

/**
 * The way messages take from the outbox to their handlers. Delivery is at least once and in no fixed order, so
 * a handler reads current state anew and every effect of it is keyed.
 */
export interface Transport {
  /** Starts to take messages of one queue. */
  consume(options: ConsumeOptions): Consumer
  /**
   * Attends a transaction on a node, before anything is published in it: once it is committed its messages are on their
   * way without a further look at the outbox, if that can be.
   * @param node the node's name
   * @returns what to call at once after the commit; without one nothing is sent
   */
  attend(trx: object, node: string): () => void
  /** Says that outbox rows were committed just now by a transaction that nobody attended: whoever waits for some looks at once. */
  wake(): void
  /** Closes every consumer that is still open. */
  close(): Promise<void>
}

export interface ConsumeOptions {
  readonly queue: string
  /** One per event that may be in the queue; a message of any other event is a dead letter. */
  readonly handlers: readonly Handler[]
  /** Handlers that run at once. */
  readonly concurrency: number
  /** Messages held at once, waiting, running or unsettled; by default twice the concurrency. Hundreds for cheap jobs. */
  readonly batch?: number
  /** A handler that runs longer is told to stop, and its message is delivered again. */
  readonly deadlineMs: number
  /** After so many failed attempts a message is a dead letter. Default `ATTEMPTS_MAX`. */
  readonly maxAttempts?: number
}

export interface Consumer {
  readonly queue: string
  /**
   * Takes no more messages, gives back those not begun, waits (up to a bound) for the handlers that run, then
   * aborts what is left and gives that back too. Settles within the bound whatever the handlers do.
   */
  close(): Promise<void>
  /** Settles when the queue has no message that is due or being worked on, on any node: for tests. */
  drained(): Promise<void>
}

/** What a handler knows of its delivery besides the body. */
export interface Job {
  /** The message's id: the same at every delivery, so effects can be keyed with it. */
  readonly id: string
  /** 1 at the first delivery. */
  readonly attempt: number
  /** The request in which the message was published. */
  readonly requestId: string | null
  /** Aborted at the deadline and at the end of a shutdown: hand it to whatever can be cancelled. */
  readonly signal: AbortSignal
  readonly log: Logger
}

/** Why a delivery failed: a short stable word to filter by, and a sentence for people. */
export interface Failure {
  /** An error's code or name, or one of `invalid_body`, `unknown_event`, `deadline`, `abandoned`. */
  readonly cause: string
  readonly detail: string
}

/** The work for one event. Methods, so that a list may hold handlers of events with different bodies. */
export interface Handler<S extends TSchema = TSchema> {
  readonly event: EventContract<S>
  /** Does the work; to throw is to ask for another attempt. */
  handle(body: Static<S>, job: Job): Promise<void>
  /** Called after the last attempt failed, before the message becomes a dead letter; tried a few times itself. */
  exhausted?(body: Static<S>, job: Job, failure: Failure): Promise<void>
}

/** One message as a transport receives it; `attempt` counts this delivery, and a crash counts too. */
export interface Delivery {
  readonly messageId: string
  readonly event: string
  readonly body: unknown
  readonly requestId: string | null
  readonly attempt: number
  /** How an earlier attempt failed, if one did. */
  readonly lastFailure: Failure | null
}

/** What is to become of a delivery. */
export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'retry'; readonly delayMs: number; readonly failure: Failure }
  | { readonly kind: 'dead'; readonly failure: Failure }
  /** The process is leaving: redeliver at once, and do not count the attempt. */
  | { readonly kind: 'returned' }
