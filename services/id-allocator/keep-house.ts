import { setTimeout as delay } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import { expireLeases, readOccupancy, warnOfOccupancy } from '#platform/id-lease/house-keeping.ts'
import type { Logger } from '#platform/logger/logger.ts'
import { idLedgerMetrics } from '#platform/metrics/id-ledger-metrics.ts'
import type { Registry } from '#platform/metrics/metrics.ts'

const INTERVAL_MS = 15_000
/** Batches of one round: then the holders have the ledger's lock for a while. */
const BATCHES_MAX = 20

export interface LedgerHouse<DB> {
  /** The directory's primary. */
  readonly directory: Kysely<DB>
  /** Sequence numbers in a lane, as the processes of this deployment ask for. */
  readonly laneWidth: number
  readonly metrics: Registry
  readonly log: Pick<Logger, 'warn'>
}

export interface LedgerHouseKeeper {
  /** Begins to keep house: now and every 15 s. A round that fails is logged; the next one comes all the same. */
  start(): void
  /** One whole round: deletes old leases, measures, warns. @throws what the directory throws */
  drain(): Promise<void>
  /** Starts nothing more and waits for the round that runs. */
  close(): Promise<void>
}

/** Keeps the id ledger's house: expiry, the occupancy metric, and a warning before lanes run out. */
export function createLedgerHouseKeeper<DB>({ directory, laneWidth, metrics, log }: LedgerHouse<DB>): LedgerHouseKeeper {
  const measure = idLedgerMetrics(metrics)
  const closing = new AbortController()
  let loop: Promise<void> | undefined

  async function drain(): Promise<void> {
    for (let batch = 0; batch < BATCHES_MAX && !closing.signal.aborted; batch++) {
      if ((await expireLeases(directory)) === 0) break
    }
    const occupancy = await readOccupancy(directory, laneWidth)
    measure(occupancy)
    const warning = warnOfOccupancy(occupancy)
    if (warning !== undefined) log.warn(occupancy, warning)
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      await drain().catch((error: unknown) => log.warn({ err: error }, "the id ledger's house was not kept"))
      await delay(INTERVAL_MS, undefined, { signal: closing.signal }).catch(() => undefined)
    }
  }

  return {
    start() {
      loop ??= run()
    },
    drain,
    async close() {
      closing.abort()
      await loop
    },
  }
}
