import { hostname } from 'node:os'
import { systemClock, type Clock } from '#kernel/clock.ts'
import { migrations } from '#migrations/migrations.ts'
import type { BlobStore } from '#platform/blob-store/blob-store.ts'
import { openBlobStore } from '#platform/blob-store/open-blob-store.ts'
import { loadConfig, type Config } from '#platform/config/config.ts'
import type { Environment } from '#platform/config/environment.ts'
import { openIdSource, type IdSource } from '#platform/id-lease/holder.ts'
import { noLeaseRequests, type LeaseRequests } from '#platform/id-lease/lease-requests.ts'
import { createLedger } from '#platform/id-lease/ledger.ts'
import { withFallback } from '#platform/id-lease/with-fallback.ts'
import { createLogger, type Logger } from '#platform/logger/logger.ts'
import { brokerMetrics } from '#platform/metrics/broker-metrics.ts'
import type { Cache } from '#platform/memcached/cache.ts'
import { createInvalidations, pendingKeys, type Invalidations } from '#platform/memcached/invalidations.ts'
import { openCache } from '#platform/memcached/open-cache.ts'
import { cacheMetrics } from '#platform/metrics/cache-metrics.ts'
import { jobMetrics } from '#platform/metrics/job-metrics.ts'
import { startMetricsServer } from '#platform/metrics/metrics-server.ts'
import { replicaMetrics } from '#platform/metrics/replica-metrics.ts'
import { createMetrics, type Registry } from '#platform/metrics/metrics.ts'
import { postgresTransport } from '#platform/outbox/postgres-transport.ts'
import type { Transport } from '#platform/outbox/transport.ts'
import { fitPools } from '#platform/postgres/fit-pools.ts'
import { assertMigrated } from '#platform/postgres/migrate.ts'
import type { Replica } from '#platform/postgres/replica.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { openBroker } from '#platform/rabbitmq/broker.ts'
import { rabbitLeaseSource } from '#platform/rabbitmq/lease-source.ts'
import { rabbitTransport } from '#platform/rabbitmq/rabbit-transport.ts'
import { rabbitLeaseRequests } from '#platform/rabbitmq/serve-leases.ts'
import { topologyOf } from '#platform/rabbitmq/topology.ts'
import type { AppRouter, Database } from './database.ts'
import { QUEUES } from './queues.ts'
import { arriveShard } from './shards/arrive-shard.ts'

/** Everything that a process is built on; made once, in its composition root, and handed down. */
export interface Context {
  readonly config: Config
  readonly log: Logger
  readonly metrics: Registry
  readonly clock: Clock
  readonly router: AppRouter
  readonly cache: Cache
  readonly invalidations: Invalidations
  readonly ids: IdSource
  readonly blobs: BlobStore
  readonly transport: Transport
  readonly leaseRequests: LeaseRequests
  /** What else the process works with, and how it is: without it work waits, and no request fails. */
  readonly companions: readonly Companion[]
}

/** An outside system whose absence degrades us and no more. */
export interface Companion {
  readonly name: string
  readonly kind: string
  health(): 'ok' | 'degraded'
}

/** A context and the end of it: closes in the order that loses nothing, workers first and pools last. */
export interface OpenContext extends Context {
  close(): Promise<void>
}

export interface ContextOptions {
  /** True for a process that reads for people: only such a one connects to replicas. False by default. */
  readonly readsReplicas?: boolean
}

/**
 * Builds the context of one process from its environment.
 *
 * @param processType a line of the Procfile, such as `fanout-worker`: in every log line, metric and database session
 * @throws ConfigError for a bad environment; Error for a database that is unreachable, too small or not migrated. What had
 *   been opened until then is closed again.
 */
export async function openContext(
  processType: string,
  env: Environment,
  { readsReplicas = false }: ContextOptions = {},
): Promise<OpenContext> {
  const config = loadConfig(env)
  const log = createLogger({ process: processType, level: config.logLevel })
  const metrics = createMetrics(processType)
  const clock = systemClock

  await using opening = new AsyncDisposableStack()
  const nodes = await fitPools(config.nodes, config.pool, log)
  const router = await openRouter<Database>(
    {
      nodes,
      poolMax: config.pool.max,
      applicationName: `monogram ${processType}`,
      replicas: readsReplicas ? { ...config.replicas, metrics: replicaMetrics(metrics) } : null,
      onArrival: (trx, shard) => arriveShard(trx, shard, clock.nowMs()),
      attend: (trx, node) => transport.attend(trx, node.name),
    },
    log,
  )
  opening.defer(() => router.close())
  await Promise.all(router.nodes.map((node) => assertMigrated(node, migrations)))

  if (config.metrics.port !== null) {
    const server = await startMetricsServer(metrics, { host: config.http.host, port: config.metrics.port })
    opening.defer(() => server.close())
  }
  const cache = await openCache(router.directory.primary, config.cache, {
    log,
    clock,
    metrics: cacheMetrics(metrics),
    pending: () => pendingKeys(router.nodes.map(({ primary }) => primary)),
  })
  opening.defer(() => cache.close())
  const invalidations = createInvalidations(cache, log)
  opening.defer(() => invalidations.idle())

  const broker = config.broker && (await openBroker({
    url: config.broker.url,
    topology: topologyOf(Object.values(QUEUES)),
    name: `monogram ${processType}`,
    log,
    metrics: brokerMetrics(metrics),
  }))
  opening.defer(async () => broker?.close())
  const ledger = createLedger(router.directory.primary)
  const ids = openIdSource({
    source: broker ? withFallback(rabbitLeaseSource(broker), ledger, clock) : ledger,
    holder: `${processType} ${hostname()}/${process.pid}`,
    laneWidth: config.laneWidth,
    log,
    clock,
  })
  opening.defer(() => ids.close())
  const jobs = { nodes: router.nodes, log, metrics: jobMetrics(metrics), clock }
  const transport: Transport = broker ? rabbitTransport({ broker, ...jobs }) : postgresTransport(jobs)
  opening.defer(() => transport.close())

  const storage = await openBlobStore(config.storage, log, clock)
  opening.defer(() => storage.close())

  const opened = opening.move()
  return {
    config,
    log,
    metrics,
    clock,
    router,
    cache,
    invalidations,
    ids,
    blobs: storage.blobs,
    transport,
    leaseRequests: broker ? rabbitLeaseRequests(broker, log) : noLeaseRequests,
    companions: [
      ...(broker ? [{ name: 'broker', kind: 'rabbitmq', health: () => broker.health() }] : []),
      ...router.nodes.flatMap(({ replicas }) => replicas?.replicas ?? []).map(companionOf),
    ],
    close: () => opened.disposeAsync(),
  }
}

function companionOf(replica: Replica<Database>): Companion {
  return {
    name: replica.name,
    kind: 'postgresql replica',
    health: () => (replica.standing === 'in rotation' ? 'ok' : 'degraded'),
  }
}
