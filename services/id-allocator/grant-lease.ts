import { createLedger } from '#platform/id-lease/ledger.ts'
import type { Context } from '#domain/context.ts'

/** Grants, renews and takes back leases for the processes that ask by message, until closed. */
export function grantLeases({ leaseRequests, router }: Pick<Context, 'leaseRequests' | 'router'>): { close(): Promise<void> } {
  return leaseRequests.serve(createLedger(router.directory.primary))
}
