import { Gauge, type Registry } from 'prom-client'
import type { LedgerOccupancy } from '../id-lease/house-keeping.ts'

/** Registers the gauges of the id ledger's occupancy; returns what sets them. */
export function idLedgerMetrics(registry: Registry): (occupancy: LedgerOccupancy) => void {
  const registers = [registry]
  const leases = new Gauge({ name: 'monogram_id_leases', help: 'Id leases that are not over', registers })
  const taken = new Gauge({ name: 'monogram_id_sequences_taken', help: 'Sequence numbers under lease, of 1,024', registers })
  const lanes = new Gauge({
    name: 'monogram_id_lanes',
    help: 'Lanes of the configured width, by state (free or taken): with none free, new processes cannot mint ids',
    labelNames: ['state'],
    registers,
  })
  return (occupancy) => {
    leases.set(occupancy.leases)
    taken.set(occupancy.sequencesTaken)
    lanes.set({ state: 'free' }, occupancy.lanesFree)
    lanes.set({ state: 'taken' }, occupancy.lanesTotal - occupancy.lanesFree)
  }
}
