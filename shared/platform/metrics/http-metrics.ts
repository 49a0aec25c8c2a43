import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

const SECONDS_BUCKETS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30]

/** Where the web process reports its requests. */
export interface HttpMetrics {
  /** A request began; call what comes back once, when its response is over. */
  begin(): () => void
  /**
   * A response was sent. `route` is the pattern, never the path, so that there are few series.
   * @param statements sent to PostgreSQL for it
   */
  answered(labels: { method: string; route: string; status: number }, seconds: number, statements: number): void
}

/** Requests in flight, and how long they took, by route and status. */
export function httpMetrics(registry: Registry): HttpMetrics {
  let inFlight = 0
  new Gauge({
    name: 'monogram_http_requests_in_flight',
    help: 'Requests whose response is not over',
    registers: [registry],
    collect() {
      this.set(inFlight)
    },
  })
  const seconds = new Histogram({
    name: 'monogram_http_request_seconds',
    help: 'Time from the request to the end of its response',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS_BUCKETS,
    registers: [registry],
  })
  const databaseStatements = new Counter({
    name: 'monogram_http_database_statements_total',
    help: 'Statements sent to PostgreSQL until the response, BEGIN and COMMIT included',
    labelNames: ['method', 'route'],
    registers: [registry],
  })
  return {
    begin() {
      inFlight++
      return () => inFlight--
    },
    answered(labels, duration, statements) {
      seconds.observe(labels, duration)
      if (statements > 0) databaseStatements.inc({ method: labels.method, route: labels.route }, statements)
    },
  }
}
