/** A row of the outbox, as the transaction that writes it knows it. */
export interface WrittenRow {
  readonly id: bigint
  readonly messageId: string
  readonly queue: string
  readonly event: string
  /** JSON */
  readonly body: string
  readonly requestId: string | null
  readonly enqueuedAt: Date
}

/** What a transport makes of the rows that one transaction writes. */
export interface Handoff {
  /**
   * How a row for that queue is to be written: claimed, because this process sends it as soon as it is committed; null:
   * due, for whoever claims it. A claim that nobody makes good runs out by itself.
   */
  claim(queue: string): { readonly token: string; readonly visibilityMs: number } | null
  /** Told of rows that were written claimed. */
  claimed(rows: readonly WrittenRow[]): void
  /** Told that rows were written that are due. */
  due(): void
}

const handoffs = new WeakMap<object, Handoff>()

/** From now on what is published in the transaction is written as the handoff says. */
export function attendTransaction(trx: object, handoff: Handoff): void {
  handoffs.set(trx, handoff)
}

/** The handoff of a transaction; without one its rows are written as due. */
export function handoffOf(trx: object): Handoff | undefined {
  return handoffs.get(trx)
}
