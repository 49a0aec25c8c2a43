import { collectDefaultMetrics, Registry } from 'prom-client'

export type { Registry } from 'prom-client'

/** A registry with the process's own figures (memory, event loop, GC), every series labelled with the process type. */
export function createMetrics(processType: string): Registry {
  const registry = new Registry()
  registry.setDefaultLabels({ process: processType })
  collectDefaultMetrics({ register: registry })
  return registry
}
