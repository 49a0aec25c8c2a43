import type { LeaseSource } from './lease-source.ts'

/** The way by which other processes ask for leases. */
export interface LeaseRequests {
  /** Answers them from the ledger until closed. */
  serve(ledger: LeaseSource): { close(): Promise<void> }
}

/** Without a broker nobody asks: every process goes to the ledger itself. */
export const noLeaseRequests: LeaseRequests = {
  serve: () => ({ close: () => Promise.resolve() }),
}
