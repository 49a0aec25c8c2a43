import { Counter, Gauge, type Registry } from 'prom-client'
import type { ReplicaMetrics } from '../postgres/replica-metrics.ts'

/** How far replicas are, which of them are read, and where reads went that they may serve. */
export function replicaMetrics(registry: Registry): ReplicaMetrics {
  const reads = new Counter({
    name: 'monogram_replica_reads_total',
    help: 'Reads that replicas may serve, by target: replica, primary (more was needed than they had), displaced (none in rotation), shed',
    labelNames: ['node', 'target'],
    registers: [registry],
  })
  const inRotation = new Gauge({
    name: 'monogram_replica_in_rotation',
    help: '1 while a replica is read: it answers, replays what its primary writes, and is not too far behind',
    labelNames: ['replica'],
    registers: [registry],
  })
  const lagBytes = new Gauge({
    name: 'monogram_replica_lag_bytes',
    help: 'How much of what its primary has on disk a replica has not replayed',
    labelNames: ['replica'],
    registers: [registry],
  })
  const lagSeconds = new Gauge({
    name: 'monogram_replica_lag_seconds',
    help: 'How long ago, at most, the primary had no more than the replica has',
    labelNames: ['replica'],
    registers: [registry],
  })
  return {
    read: (node, target) => reads.inc({ node, target }),
    replica(replica, state) {
      inRotation.set({ replica }, state.inRotation ? 1 : 0)
      lagBytes.set({ replica }, state.lag?.bytes ?? Number.NaN)
      lagSeconds.set({ replica }, state.lag === undefined ? Number.NaN : state.lag.ms / 1_000)
    },
  }
}
