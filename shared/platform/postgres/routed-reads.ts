import type { Kysely } from 'kysely'
import type { Shard } from '#kernel/snowflake.ts'
import { ShardMovedError } from './database-errors.ts'
import type { Node } from './node.ts'
import type { ReadScope } from './replica-set.ts'
import type { ShardLocator } from './shard-locator.ts'

/** Reads by shard, of one or many, or of all nodes. */
export interface RoutedReads<DB> {
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
}

/**
 * Runs a read on one of a node's servers.
 * @param scope null while what is read may be about to change nodes, so that only the primary knows
 */
export type Serve<DB> = <T>(node: Node<DB>, scope: ReadScope | null, work: (db: Kysely<DB>) => Promise<T>) => Promise<T>

/** A shard is moved once in a long while; what is refused so often is refused by something else. */
export const ATTEMPTS_MAX = 6

/** The reads of a router: on the node of each shard, and again on another one where the shard turns out to have moved. */
export function routedReads<DB>(
  nodes: readonly Node<DB>[],
  locator: ShardLocator<DB>,
  serve: Serve<DB>,
): RoutedReads<DB> {
  /** Undefined: not all that was to be read is at home on the node, and where it is may be better known by now. */
  async function readAt<T>(
    node: Node<DB>,
    shards: readonly Shard[],
    work: (db: Kysely<DB>) => Promise<T>,
  ): Promise<{ readonly answer: T } | undefined> {
    const isSettled = locator.isSettled(shards)
    // Before it, too: to a process that was cut off for long a shard may be coming back, and be there when it looks again.
    if (isSettled || (await locator.wasAtHome(node, shards))) {
      const answer = await serve(node, isSettled ? 'some shards' : null, work)
      if (await locator.wasAtHome(node, shards)) return { answer }
    }
    await locator.follow(node, shards)
    return undefined
  }

  return {
    async read(shard, work) {
      for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
        const read = await readAt(locator.nodeOf(shard), [shard], work)
        if (read !== undefined) return read.answer
      }
      throw unsettled()
    },
    async readEach<Item, T>(
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
            const read = await readAt(node, group.map(shardOf), (db) => work(db, group))
            if (read === undefined) refused.push(...group)
            else answers.push(read.answer)
          }),
        )
        rest = refused
      }
      return answers
    },
    async readNodes(work) {
      for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
        const before = await locator.stance()
        const scope = locator.isSettled() ? 'whole node' : null
        const answers = await Promise.all(nodes.map((node) => serve(node, scope, work)))
        if ((await locator.stance()) === before) return answers
      }
      throw unsettled()
    },
  }
}

function unsettled(): ShardMovedError {
  return new ShardMovedError('Logical shards change nodes faster than they can be read.')
}
