import type { Rectangle } from '#kernel/id-minter.ts'

/** Who asks for a lease, and how many sequence numbers wide its lane should be. */
export interface LeaseRequest {
  /** Names the process to people who read the ledger; it need not be unique. */
  readonly holder: string
  /** 1 … 1,024 */
  readonly laneWidth: number
}

/** A lease as granted or renewed: plain data, so that it can travel in a message. */
export interface Grant {
  readonly leaseId: string
  readonly rectangle: Rectangle
  /** The ledger's clock when it decided, in Unix milliseconds: the only clock that ids know. */
  readonly ledgerNowMs: number
}

/** All lanes of that width are taken; the first comes free in about so many milliseconds. */
export interface NoLane {
  readonly leaseId: null
  readonly freeInMs: number
}

/** Where leases come from: the ledger itself, or an allocator that is asked for them. */
export interface LeaseSource {
  /**
   * Grants a rectangle that overlaps no other, ever.
   * @throws whatever keeps the source from answering; a grant may then have been made, and expires unused
   */
  grant(request: LeaseRequest): Promise<Grant | NoLane>
  /** Moves the end of a lease to one full lease from now; undefined if it is unknown, over, or about to be. */
  renew(leaseId: string): Promise<Grant | undefined>
  /** Gives back what lies after `usedUntilMs` (Unix milliseconds, exclusive). The holder mints no more. */
  release(leaseId: string, usedUntilMs: number): Promise<void>
}
