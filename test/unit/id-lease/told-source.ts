import type { Grant, LeaseSource, NoLane } from '#platform/id-lease/lease-source.ts'
import type { VirtualTime } from './virtual-time.ts'

export const LEASE_MS = 60_000

/** A source of leases in memory, which does what the test says. */
export interface ToldSource extends LeaseSource {
  /** How far the ledger's clock is off the time that passes. */
  offMs: number
  /** How long from now grants begin. */
  delayMs: number
  down: boolean
  full: boolean
  refusesRenewals: boolean
  /** Calls that came, in short. */
  readonly calls: string[]
}

/** Every grant is the next lane of its width; renewals last one lease from the ledger's now. */
export function toldSource(time: VirtualTime, startMs: number): ToldSource {
  const leases = new Map<string, Grant>()
  let nextSequence = 0

  const nowMs = (): number => Math.floor(startMs + time.clock.monotonicMs() + source.offMs)
  const source: ToldSource = {
    offMs: 0,
    delayMs: 0,
    down: false,
    full: false,
    refusesRenewals: false,
    calls: [],
    async grant({ laneWidth }): Promise<Grant | NoLane> {
      source.calls.push('grant')
      if (source.down) throw new Error('down')
      if (source.full) return { leaseId: null, freeInMs: 12_500 }
      const fromMs = nowMs() + source.delayMs
      const rectangle = { firstSequence: nextSequence, sequenceCount: laneWidth, fromMs, untilMs: fromMs + LEASE_MS }
      const grant = { leaseId: `lease-${leases.size}`, rectangle, ledgerNowMs: nowMs() }
      nextSequence += laneWidth
      leases.set(grant.leaseId, grant)
      return grant
    },
    async renew(leaseId) {
      source.calls.push('renew')
      if (source.down) throw new Error('down')
      const lease = leases.get(leaseId)
      if (lease === undefined || source.refusesRenewals) return undefined
      const untilMs = Math.max(lease.rectangle.untilMs, nowMs() + LEASE_MS)
      return { leaseId, rectangle: { ...lease.rectangle, untilMs }, ledgerNowMs: nowMs() }
    },
    async release(leaseId, usedUntilMs) {
      source.calls.push(`release ${leaseId} ${usedUntilMs - startMs}`)
      if (source.down) throw new Error('down')
      leases.delete(leaseId)
    },
  }
  return source
}
