import { sql, type Kysely, type Transaction } from 'kysely'
import { systemClock, type Clock } from '#kernel/clock.ts'
import type { Shard } from '#kernel/snowflake.ts'
import type { NodeConfig } from '../config/database.ts'
import type { Logger } from '../logger/logger.ts'
import { isRetryable, isShardMoved, ShardMovedError } from './database-errors.ts'
import type { OnArrival } from './handover.ts'
import { openPool } from './pool.ts'
import { openShardLocator, type ShardLocator } from './shard-locator.ts'

/** One PostgreSQL server (with, later, its replicas). */
export interface Node<DB> {
  readonly name: string
  readonly primary: Kysely<DB>
}

/**
 * The way to every row: from a logical shard to the node that holds it. A query says which shard it is for, or that it
 * is node-wide. What it is given to run may be run again, elsewhere, when the shard turns out to have moved.
 */
export interface Router<DB> {
  readonly nodes: readonly Node<DB>[]
  /** The first node: shard map, id ledger and whatever else belongs to no shard. */
  readonly directory: Node<DB>
  readonly mapVersion: bigint
  /** The node that the map names; by the time it is asked the shard may be elsewhere. */
  nodeOf(shard: Shard): Node<DB>
  /** Reads of one shard. @throws whatever `work` throws */
  read<T>(shard: Shard, work: (db: Kysely<DB>) => Promise<T>): Promise<T>
  /**
   * Reads of many shards: `work` runs once per node, in parallel, for the items whose shards are there, in their order.
   *
   * @returns what `work` gave, in no order
   * @throws whatever `work` throws
   */
  readEach<Item, T>(
    items: readonly Item[],
    shardOf: (item: Item) => Shard,
    work: (db: Kysely<DB>, items: Item[]) => Promise<T>,
  ): Promise<T[]>
  /**
   * Node-wide reads: `work` runs on every node, in parallel, with statements that leave out what is not at home there
   * (`atHome`); together they see each shard once.
   *
   * @returns what `work` gave, in the order of the nodes
   * @throws whatever `work` throws
   */
  readNodes<T>(work: (db: Kysely<DB>) => Promise<T>): Promise<T[]>
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
  /** Nothing by default. */
  readonly onArrival?: OnArrival<DB>
  readonly clock?: Pick<Clock, 'monotonicMs'>
}

/** A shard is moved once in a long while; what is refused so often is refused by something else. */
const ATTEMPTS_MAX = 6

/**
 * Opens a pool per node and reads the shard map.
 *
 * @throws Error when the directory is unreachable or has no map, or when the map names a node that is not configured
 */
export async function openRouter<DB>(options: RouterOptions<DB>, log: Logger): Promise<Router<DB>> {
  const [directory, ...others] = options.nodes.map((node) => openNode<DB>(node, options, log))
  if (directory === undefined) throw new Error('A router needs at least one node.')
  const nodes = [directory, ...others] as const
  const closePools = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.primary.destroy()))
  }
  const { onArrival = async () => {}, clock = systemClock } = options
  let locator: ShardLocator<DB, Node<DB>>
  try {
    locator = await openShardLocator<DB, Node<DB>>(nodes, onArrival, clock, log)
  } catch (error) {
    await closePools()
    throw error
  }

  async function readEach<Item, T>(
    items: readonly Item[],
    shardOf: (item: Item) => Shard,
    work: (db: Kysely<DB>, items: Item[]) => Promise<T>,
  ): Promise<T[]> {
    const answers: T[] = []
    let rest = items
    for (let attempt = 1; rest.length > 0; attempt++) {
      if (attempt > ATTEMPTS_MAX) throw unsettled()
      const refused: Item[] = []
      await Promise.all(
        [...locator.groupByNode(rest, shardOf)].map(async ([node, group]) => {
          const answer = await work(node.primary, group)
          const shards = group.map(shardOf)
          if (await locator.wasAtHome(node, shards)) return answers.push(answer)
          await locator.follow(node, shards)
          return refused.push(...group)
        }),
      )
      rest = refused
    }
    return answers
  }

  return {
    nodes,
    directory,
    get mapVersion() {
      return locator.mapVersion
    },
    nodeOf: (shard) => locator.nodeOf(shard),
    async read(shard, work) {
      for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
        const node = locator.nodeOf(shard)
        const answer = await work(node.primary)
        if (await locator.wasAtHome(node, [shard])) return answer
        await locator.follow(node, [shard])
      }
      throw unsettled()
    },
    readEach,
    async readNodes(work) {
      for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
        const before = await locator.stance()
        const answers = await Promise.all(nodes.map((node) => work(node.primary)))
        if ((await locator.stance()) === before) return answers
      }
      throw unsettled()
    },
    async write(shard, work) {
      for (let attempt = 1; ; attempt++) {
        const node = locator.nodeOf(shard)
        try {
          return await node.primary.transaction().execute(async (trx) => {
            await sql`select enter_shard(${shard}::int)`.execute(trx)
            return work(trx, node)
          })
        } catch (error) {
          if (attempt >= ATTEMPTS_MAX) throw error
          if (isShardMoved(error)) await locator.follow(node, [shard])
          else if (!isRetryable(error)) throw error
        }
      }
    },
    refresh: () => locator.refresh(),
    async close() {
      await locator.close()
      await closePools()
    },
  }
}

function openNode<DB>(node: NodeConfig, options: RouterOptions<DB>, log: Logger): Node<DB> {
  const { poolMax: max, applicationName } = options
  const preparedStatements = node.preparedStatements ?? true
  return { name: node.name, primary: openPool<DB>({ url: node.url, max, applicationName, preparedStatements }, log) }
}

function unsettled(): ShardMovedError {
  return new ShardMovedError('Logical shards change nodes faster than they can be read.')
}
