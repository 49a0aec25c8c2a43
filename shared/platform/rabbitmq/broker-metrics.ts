import type { LinkState } from './link.ts'

/**
 * How a publish ended: taken by a queue; given back because no queue is bound; refused (a full queue); without an answer
 * in time; or cut off with the connection.
 */
export type PublishEnd = 'confirmed' | 'returned' | 'refused' | 'late' | 'lost'

/** Where the broker's part of a process reports its counts; the metrics folder implements it. */
export interface BrokerMetrics {
  published(end: PublishEnd): void
  /** The state of the connection that publishes. */
  linked(state: LinkState): void
}

export const noBrokerMetrics: BrokerMetrics = { published() {}, linked() {} }
