import type { Clock } from '#kernel/clock.ts'
import type { Shard } from '#kernel/snowflake.ts'
import type { Logger } from '../logger/logger.ts'
import { ShardMovedError } from './database-errors.ts'
import { completeHandover, type OnArrival } from './handover.ts'
import { openMapLease } from './map-lease.ts'
import type { NodeChanges } from './node-changes.ts'
import type { Node } from './node.ts'
import { WEIGHT_MAX, type ShardMap } from './shard-map.ts'
import { readStrays, straysAmong, type StrayShard } from './shard-state.ts'

/**
 * Knows on which node each logical shard is, and whether that can be relied on.
 *
 * Why nothing is read from a node that its shard has left: a move is announced in the map for longer than any process
 * may rely on a look at the map (see `map-lease.ts`) before the shard changes nodes. So while that lease is held, a
 * shard that the map does not call moving is where the map says, and asking costs nothing. Of one that is moving, or
 * when the lease has run out, the node says after the read whether the shard is still at home: if it is, it was then.
 */
export interface ShardLocator<DB> {
  readonly mapVersion: bigint
  /** What a replica of the node must have for it: shards that came, and for node-wide reads also that others went. */
  changesOf(node: Node<DB>): NodeChanges
  /**
   * The node that the map names.
   *
   * @throws RangeError when there is no such shard; ShardMovedError when its node is not configured
   */
  nodeOf(shard: Shard): Node<DB>
  /** How readily new accounts go to the shard, 0 to `WEIGHT_MAX`: as its node's weight says. */
  weightOf(shard: Shard): number
  /** Splits items by the node of their shard, keeping their order within each node. */
  groupByNode<T>(items: readonly T[], shardOf: (item: T) => Shard): Map<Node<DB>, T[]>
  /** True while no shard, or none of `shards`, can be elsewhere than where the map says. */
  isSettled(shards?: readonly Shard[]): boolean
  /** True when all of what has just been read on `node` was at home there. */
  wasAtHome(node: Node<DB>, shards: readonly Shard[]): Promise<boolean>
  /** After a node's refusal: learns where its shards went; if their handover stands still, completes it. */
  follow(node: Node<DB>, shards: readonly Shard[]): Promise<void>
  /**
   * What to compare before and after a node-wide read: equal values say that no shard changed nodes in between.
   *
   * @throws ShardMovedError when handovers do not come to an end
   */
  stance(): Promise<string>
  refresh(): Promise<void>
  close(): Promise<void>
}

const SETTLE_ATTEMPTS_MAX = 6

/**
 * Reads the map from the first of the nodes, the directory, and keeps it fresh.
 *
 * @throws Error when the directory is unreachable or has no map, or when the map names a node that is not among `nodes`
 */
export async function openShardLocator<DB>(
  nodes: readonly [Node<DB>, ...Node<DB>[]],
  onArrival: OnArrival<DB>,
  clock: Pick<Clock, 'monotonicMs'>,
  log: Logger,
): Promise<ShardLocator<DB>> {
  const [directory] = nodes
  const byName = new Map(nodes.map((node) => [node.name, node]))
  let places: readonly (Node<DB> | undefined)[] | undefined
  const changes = new Map<Node<DB>, NodeChanges>()

  /** @param isNext true when no shard can have gone and come back since the map before */
  function noteChanges({ version }: ShardMap, next: readonly (Node<DB> | undefined)[], isNext: boolean): void {
    const arrivedAt = new Set<Node<DB> | undefined>()
    const changedAt = new Set<Node<DB> | undefined>()
    next.forEach((node, shard) => {
      const before = places?.[shard]
      if (node === before) return
      arrivedAt.add(node)
      changedAt.add(node).add(before)
    })
    for (const node of nodes) {
      const known = isNext ? changes.get(node) : undefined
      changes.set(node, {
        arrived: known === undefined || arrivedAt.has(node) ? version : known.arrived,
        changed: known === undefined || changedAt.has(node) ? version : known.changed,
      })
    }
  }

  /** A node that is new in the map is unknown until we are restarted with it; only its own shards are out of reach. */
  function place(map: ShardMap, isNext: boolean): void {
    const unknown = map.nodeNames.find((name) => !byName.has(name))
    if (unknown !== undefined) {
      const message = `The shard map names the node ${unknown}, which DATABASE_NODES does not list.`
      if (places === undefined) throw new Error(message)
      log.error(message)
    }
    const next = map.nodeNames.map((name) => byName.get(name))
    noteChanges(map, next, isNext)
    places = next
  }

  const lease = await openMapLease(directory.primary, place, clock, log)
  const isCalm = (): boolean => lease.map.moving.size === 0 && lease.isHeld()

  function isSettled(shards?: readonly Shard[]): boolean {
    if (isCalm()) return true
    const { moving } = lease.map
    return shards !== undefined && lease.isHeld() && !shards.some((shard) => moving.has(shard))
  }

  function nodeOf(shard: Shard): Node<DB> {
    const node = places?.[shard]
    if (node !== undefined) return node
    const name = lease.map.nodeNames[shard]
    if (name === undefined) throw new RangeError(`There is no logical shard ${shard}.`)
    throw new ShardMovedError(`Logical shard ${shard} is on ${name}, which DATABASE_NODES does not list.`)
  }

  async function complete(source: Node<DB>, { shard, moveId, peer }: StrayShard): Promise<void> {
    const target = byName.get(peer)
    if (target === undefined) {
      throw new ShardMovedError(`Logical shard ${shard} went to ${peer}, which DATABASE_NODES does not list.`)
    }
    await completeHandover({ shard, moveId, source: source.name, target, directory: directory.primary, onArrival })
  }

  /** The map is a help: where a node itself says where its shard went, we can do without. */
  async function refreshIfPossible(): Promise<void> {
    await lease.refresh().catch((error: unknown) => log.warn({ err: error }, 'the shard map could not be read'))
  }

  return {
    get mapVersion() {
      return lease.map.version
    },
    changesOf(node) {
      const known = changes.get(node)
      if (known === undefined) throw new TypeError(`${node.name} is not one of the nodes`)
      return known
    },
    nodeOf,
    weightOf: (shard) => lease.map.weights.get(lease.map.nodeNames[shard] ?? '') ?? WEIGHT_MAX,
    isSettled,
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
    async wasAtHome(node, shards) {
      if (shards.some((shard) => places?.[shard] !== node)) return false
      return isSettled(shards) || (await straysAmong(node.primary, shards)).length === 0
    },
    async follow(node, shards) {
      await refreshIfPossible()
      const strays = await straysAmong(node.primary, shards)
      const behind = strays.filter(({ shard, state }) => state !== 'arriving' && nodeOf(shard) === node)
      if (behind.length === 0) return
      await Promise.all(behind.map((stray) => complete(node, stray)))
      await refreshIfPossible()
    },
    async stance() {
      if (isCalm()) return `map ${lease.map.version}`
      for (let attempt = 1; attempt <= SETTLE_ATTEMPTS_MAX; attempt++) {
        const strays = await Promise.all(nodes.map((node) => readStrays(node.primary)))
        const arriving = new Set(strays.flat().flatMap(({ state, moveId }) => (state === 'arriving' ? [moveId] : [])))
        // Departed there and not arrived here: on no node.
        const between = nodes.flatMap((source, at) =>
          (strays[at] ?? [])
            .filter(({ state, moveId }) => state === 'departed' && arriving.has(moveId))
            .map((stray) => ({ source, stray })),
        )
        if (between.length === 0) return JSON.stringify(strays)
        await Promise.all(between.map(({ source, stray }) => complete(source, stray)))
      }
      throw new ShardMovedError('Some logical shards are on no node for the moment.')
    },
    refresh: () => lease.refresh(),
    close: () => lease.close(),
  }
}
