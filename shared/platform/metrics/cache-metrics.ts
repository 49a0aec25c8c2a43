import { Counter, Gauge, type Registry } from 'prom-client'
import type { CacheMetrics } from '../memcached/cache-metrics.ts'

/** Counts of this process's cache: how reads ended, what was sent, and which nodes are left alone. */
export function cacheMetrics(registry: Registry): CacheMetrics {
  const reads = new Counter({
    name: 'monogram_cache_reads_total',
    help: 'Keys read, by how: hit, absent, filled, waited or down (the last two from the database without storing)',
    labelNames: ['end'],
    registers: [registry],
  })
  const commands = new Counter({
    name: 'monogram_cache_commands_total',
    help: 'Commands sent to memcached',
    registers: [registry],
  })
  const multiGets = new Counter({
    name: 'monogram_cache_multi_gets_total',
    help: 'Writes to memcached that carried gets',
    registers: [registry],
  })
  const failures = new Counter({
    name: 'monogram_cache_failures_total',
    help: 'Failures by node and reason: connection (late answers too), overload, corrupt, delete (not confirmed)',
    labelNames: ['node', 'reason'],
    registers: [registry],
  })
  const broken = new Gauge({
    name: 'monogram_cache_node_broken',
    help: '1 while a cache node is left alone until it answers a probe',
    labelNames: ['node'],
    registers: [registry],
  })
  return {
    read: (end, count) => reads.inc({ end }, count),
    commands: (count) => commands.inc(count),
    multiGet: () => multiGets.inc(),
    failure: (node, reason) => failures.inc({ node, reason }),
    breaker: (node, isOpen) => broken.set({ node }, isOpen ? 1 : 0),
  }
}
