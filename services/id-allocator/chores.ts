import type { Kysely } from 'kysely'
import { expireLeases, readOccupancy, warnOfOccupancy } from '#platform/id-lease/house-keeping.ts'
import type { Chore } from '#platform/lifecycle/house-keeper.ts'
import type { Logger } from '#platform/logger/logger.ts'
import { idLedgerMetrics } from '#platform/metrics/id-ledger-metrics.ts'
import type { Registry } from '#platform/metrics/metrics.ts'

const INTERVAL_MS = 15_000

export interface LedgerHouse<DB> {
  /** The directory's primary. */
  readonly directory: Kysely<DB>
  /** Sequence numbers in a lane, as the processes of this deployment ask for. */
  readonly laneWidth: number
  readonly metrics: Registry
  readonly log: Pick<Logger, 'warn'>
}

/** Keeps the id ledger's house: old leases go, the occupancy is measured, and a warning comes before lanes run out. */
export function chores<DB>({ directory, laneWidth, metrics, log }: LedgerHouse<DB>): Chore[] {
  const measure = idLedgerMetrics(metrics)
  return [
    {
      name: 'expire id leases',
      intervalMs: INTERVAL_MS,
      run: async () => (await expireLeases(directory)) > 0,
    },
    {
      name: 'measure the id ledger',
      intervalMs: INTERVAL_MS,
      async run() {
        const occupancy = await readOccupancy(directory, laneWidth)
        measure(occupancy)
        const warning = warnOfOccupancy(occupancy)
        if (warning !== undefined) log.warn(occupancy, warning)
        return false
      },
    },
  ]
}
