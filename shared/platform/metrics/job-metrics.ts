import { Counter, Histogram, type Registry } from 'prom-client'
import type { JobMetrics } from '../outbox/job-metrics.ts'

const SECONDS_BUCKETS = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

/** Counts of the jobs of this process, by queue: what was claimed, how it ended, how long its handlers ran. */
export function jobMetrics(registry: Registry): JobMetrics {
  const claimed = new Counter({
    name: 'monogram_jobs_claimed_total',
    help: 'Deliveries taken from a queue',
    labelNames: ['queue'],
    registers: [registry],
  })
  const ended = new Counter({
    name: 'monogram_jobs_ended_total',
    help: 'Deliveries by how they ended',
    labelNames: ['queue', 'end'],
    registers: [registry],
  })
  const seconds = new Histogram({
    name: 'monogram_job_seconds',
    help: 'Duration of one run of a handler',
    labelNames: ['queue', 'event'],
    buckets: SECONDS_BUCKETS,
    registers: [registry],
  })
  return {
    claimed: (queue, count) => claimed.inc({ queue }, count),
    ended: (queue, end, count) => ended.inc({ queue, end }, count),
    ran: (queue, event, duration) => seconds.observe({ queue, event }, duration),
  }
}
