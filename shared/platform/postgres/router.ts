import { sql, type Transaction } from 'kysely'
import { systemClock, type Clock } from '#kernel/clock.ts'
import type { Shard } from '#kernel/snowflake.ts'
import type { NodeConfig, ReplicaLimits } from '../config/database.ts'
import type { Logger } from '../logger/logger.ts'
import { isRetryable, isShardMoved, ShardMovedError } from './database-errors.ts'
import type { OnArrival } from './handover.ts'
import type { Node } from './node.ts'
import { openPool } from './pool.ts'
import { createReader, type Reader } from './reader.ts'
import { noReplicaMetrics, type ReplicaMetrics } from './replica-metrics.ts'
import { openReplicaSet } from './replica-set.ts'
import { ATTEMPTS_MAX, routedReads, type RoutedReads, type Serve } from './routed-reads.ts'
import { openShardLocator, type ShardLocator } from './shard-locator.ts'
import type { WalPosition } from './wal-position.ts'

/**
 * The way to every row: from a logical shard to the node that holds it. A query says which shard it is for, or that it
 * is node-wide. What it is given to run may be run again, elsewhere, when the shard turns out to have moved.
 *
 * It reads primaries. Only one that was made by `forReader` may read replicas too.
 */
export interface Router<DB> extends RoutedReads<DB> {
  readonly nodes: readonly Node<DB>[]
  /** The first node: shard map, id ledger and whatever else belongs to no shard. */
  readonly directory: Node<DB>
  readonly mapVersion: bigint
  /** False: no node has replicas, and `forReader` gives the router itself. */
  readonly hasReplicas: boolean
  /** The router that reads primaries alone. What fills a cache reads by it. */
  readonly primaries: Router<DB>
  /** A router for the reads of one reader, such as a request's, on replicas where they are far enough for it. */
  forReader(reader: Reader<DB>): Router<DB>
  /** This router, for reads that on a shard's node must not see less than there was at a position; null: than there is. */
  notBefore(shard: Shard, position: WalPosition | null): Router<DB>
  /** This router, which tells of each node after a write on it has been committed. */
  forWriter(onWritten: (node: Node<DB>) => void): Router<DB>
  /** The node that the map names; by the time it is asked the shard may be elsewhere. */
  nodeOf(shard: Shard): Node<DB>
  /** How readily new accounts go to the shard, 0 to `WEIGHT_MAX`. */
  weightOf(shard: Shard): number
  /**
   * The write door: runs `work` in one transaction that holds the shard's lock shared, so that a shard on the
   * move is never written; goes after the shard and runs again when it has moved, and after a deadlock.
   *
   * @throws whatever `work` throws; the transaction is then rolled back
   */
  write<T>(shard: Shard, work: (trx: Transaction<DB>, node: Node<DB>) => Promise<T>): Promise<T>
  /** Reads the shard map anew. @throws whatever the directory says */
  refresh(): Promise<void>
  close(): Promise<void>
}

export interface RouterOptions<DB> {
  readonly nodes: readonly NodeConfig[]
  /** Connections per node. */
  readonly poolMax: number
  readonly applicationName: string
  /** Told of each transaction of a write before its work begins; what it gives is called at once after the commit. */
  readonly attend?: (trx: Transaction<DB>, node: Node<DB>) => () => void
  /** Without it handovers that stand still are left to others: what is on no node meanwhile cannot be reached. */
  readonly onArrival?: OnArrival<DB>
  readonly clock?: Pick<Clock, 'monotonicMs'>
  /** Null, by default: replicas are left alone. */
  readonly replicas?: (ReplicaLimits & { readonly metrics?: ReplicaMetrics }) | null
}

/**
 * Opens a pool per node and reads the shard map.
 *
 * @throws Error when the directory is unreachable or has no map, or when the map names a node that is not configured
 */
export async function openRouter<DB>(options: RouterOptions<DB>, log: Logger): Promise<Router<DB>> {
  const { onArrival = leaveArrivals, attend, clock = systemClock } = options
  const [directory, ...others] = options.nodes.map((node) => openNode<DB>(node, { ...options, clock }, log))
  if (directory === undefined) throw new Error('A router needs at least one node.')
  const nodes = [directory, ...others] as const
  const replicaSets = nodes.flatMap(({ replicas }) => replicas ?? [])
  const hasReplicas = replicaSets.length > 0
  const metrics = options.replicas?.metrics ?? noReplicaMetrics
  const closePools = async (): Promise<void> => {
    await Promise.all(replicaSets.map((set) => set.close()))
    await Promise.all(nodes.map((node) => node.primary.destroy()))
  }
  let locator: ShardLocator<DB>
  try {
    locator = await openShardLocator<DB>(nodes, onArrival, clock, log)
  } catch (error) {
    await closePools()
    throw error
  }
  const watching = nodes.map(async (node) => node.replicas?.watch(() => locator.changesOf(node)))
  await Promise.all(watching)

  async function write<T>(
    shard: Shard,
    work: (trx: Transaction<DB>, node: Node<DB>) => Promise<T>,
    onWritten: (node: Node<DB>) => void,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const node = locator.nodeOf(shard)
      let onCommitted: (() => void) | undefined
      try {
        const result = await node.primary.transaction().execute(async (trx) => {
          await sql`select enter_shard(${shard}::int)`.execute(trx)
          onCommitted = attend?.(trx, node)
          return work(trx, node)
        })
        onCommitted?.()
        onWritten(node)
        return result
      } catch (error) {
        if (attempt >= ATTEMPTS_MAX) throw error
        if (isShardMoved(error)) await locator.follow(node, [shard])
        else if (!isRetryable(error)) throw error
      }
    }
  }

  type Variant = RoutedReads<DB> & Pick<Router<DB>, 'write' | 'notBefore'>

  function routerOf(variant: Variant): Router<DB> {
    const router: Router<DB> = {
      ...variant,
      nodes,
      directory: nodes[0],
      get mapVersion() {
        return locator.mapVersion
      },
      hasReplicas,
      get primaries() {
        return primaries
      },
      forReader: (reader) => (hasReplicas ? forReader(reader, variant) : router),
      forWriter: (onWritten) => routerOf({ ...variant, write: (shard, work) => write(shard, work, onWritten) }),
      nodeOf: (shard) => locator.nodeOf(shard),
      weightOf: (shard) => locator.weightOf(shard),
      refresh: () => locator.refresh(),
      async close() {
        await locator.close()
        await closePools()
      },
    }
    return router
  }

  function forReader(reader: Reader<DB>, variant: Variant): Router<DB> {
    const reads = createReader(reader, metrics)
    const readingBy = (served: Serve<DB>): Router<DB> =>
      routerOf({
        ...variant,
        ...routedReads(nodes, locator, served),
        notBefore: (shard, position) => readingBy(reads.notBefore(locator.nodeOf(shard), position)),
      })
    return readingBy(reads.serve)
  }

  const primaries: Router<DB> = routerOf({
    ...routedReads(nodes, locator, (node, _scope, work) => work(node.primary)),
    write: (shard, work) => write(shard, work, () => {}),
    notBefore: () => primaries,
  })
  return primaries
}

/** Whoever does not know what the domain does at an arrival must not let a shard arrive. */
function leaveArrivals(_trx: unknown, shard: Shard): Promise<void> {
  return Promise.reject(new ShardMovedError(`Logical shard ${shard} is changing nodes.`))
}

function openNode<DB>(
  { name, url, preparedStatements = false, replicas: servers = [] }: NodeConfig,
  options: RouterOptions<DB> & { readonly clock: Pick<Clock, 'monotonicMs'> },
  log: Logger,
): Node<DB> {
  const { poolMax: max, applicationName, clock, replicas: limits = null } = options
  const primary = openPool<DB>({ url, max, applicationName, preparedStatements }, log)
  if (limits === null || servers.length === 0) return { name, primary, replicas: null }
  const { metrics = noReplicaMetrics } = limits
  const set = { node: name, primary, servers, poolMax: max, applicationName, clock, ...limits, metrics }
  return { name, primary, replicas: openReplicaSet<DB>(set, log) }
}
