import { sql, type Kysely, type Transaction } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import type { NodeConfig } from '../config/config.ts'
import type { Logger } from '../logger/logger.ts'
import { isRetryable, isShardMoved } from './database-errors.ts'
import { openPool } from './pool.ts'
import { readShardMap, type ShardMap } from './shard-map.ts'

/** One PostgreSQL server (with, later, its replicas). */
export interface Node<DB> {
  readonly name: string
  readonly primary: Kysely<DB>
}

/**
 * The way to every row: from a logical shard to the node that holds it.
 * A query says which shard it is for, or that it is node-wide.
 */
export interface Router<DB> {
  readonly nodes: readonly Node<DB>[]
  /** The first node: shard map, id ledger and whatever else belongs to no shard. */
  readonly directory: Node<DB>
  readonly mapVersion: bigint
  nodeOf(shard: Shard): Node<DB>
  /** A handle for reads of one shard. */
  read(shard: Shard): Kysely<DB>
  /**
   * The write door: runs `work` in one transaction that holds the shard's lock shared, so that a shard on the
   * move is never written; refreshes the map and runs again when it was stale, and after a deadlock.
   *
   * @throws whatever `work` throws; the transaction is then rolled back
   */
  write<T>(shard: Shard, work: (trx: Transaction<DB>) => Promise<T>): Promise<T>
  /** Splits items by the node of their shard, keeping their order within each node. */
  groupByNode<T>(items: readonly T[], shardOf: (item: T) => Shard): Map<Node<DB>, T[]>
  /** Reads the shard map anew. */
  refresh(): Promise<void>
  close(): Promise<void>
}

const WRITE_ATTEMPTS_MAX = 4

/**
 * Opens a pool per node and reads the shard map.
 *
 * @throws Error when the directory is unreachable or has no map, or when the map names a node that is not configured
 */
export async function openRouter<DB>(
  options: { nodes: readonly NodeConfig[]; poolMax: number; applicationName: string },
  log: Logger,
): Promise<Router<DB>> {
  const nodes = options.nodes.map((node): Node<DB> => ({
    name: node.name,
    primary: openPool<DB>(
      {
        url: node.url,
        max: options.poolMax,
        applicationName: options.applicationName,
        preparedStatements: node.preparedStatements ?? true,
      },
      log,
    ),
  }))
  const [directory] = nodes
  if (directory === undefined) throw new Error('A router needs at least one node.')
  const directoryNode: Node<DB> = directory
  const close = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.primary.destroy()))
  }

  let map: ShardMap
  let places: readonly Node<DB>[]
  try {
    map = await readShardMap(directory.primary)
    places = placeShards(map, nodes)
  } catch (error) {
    await close()
    throw error
  }

  function nodeOf(shard: Shard): Node<DB> {
    const node = places[shard]
    if (node === undefined) throw new RangeError(`There is no logical shard ${shard}.`)
    return node
  }

  async function refresh(): Promise<void> {
    const fresh = await readShardMap(directoryNode.primary)
    places = placeShards(fresh, nodes)
    map = fresh
  }

  return {
    nodes,
    directory,
    get mapVersion() {
      return map.version
    },
    nodeOf,
    read: (shard) => nodeOf(shard).primary,
    async write(shard, work) {
      for (let attempt = 1; ; attempt++) {
        try {
          return await nodeOf(shard).primary.transaction().execute(async (trx) => {
            await sql`select enter_shard(${shard}::int)`.execute(trx)
            return work(trx)
          })
        } catch (error) {
          if (attempt >= WRITE_ATTEMPTS_MAX) throw error
          if (isShardMoved(error)) await refresh()
          else if (!isRetryable(error)) throw error
        }
      }
    },
    groupByNode(items, shardOf) {
      const groups = new Map<Node<DB>, typeof items[number][]>()
      for (const item of items) {
        const node = nodeOf(shardOf(item))
        const group = groups.get(node)
        if (group === undefined) groups.set(node, [item])
        else group.push(item)
      }
      return groups
    },
    refresh,
    close,
  }
}

function placeShards<DB>(map: ShardMap, nodes: readonly Node<DB>[]): Node<DB>[] {
  const byName = new Map(nodes.map((node) => [node.name, node]))
  return map.nodeNames.map((name) => {
    const node = byName.get(name)
    if (node === undefined) {
      throw new Error(`The shard map names the node ${name}, which DATABASE_NODES does not list.`)
    }
    return node
  })
}
