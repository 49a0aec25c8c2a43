import type { Node } from './node.ts'
import type { ReplicaMetrics } from './replica-metrics.ts'
import type { Replica } from './replica.ts'
import type { Need, ReplicaSet } from './replica-set.ts'
import type { Serve } from './routed-reads.ts'
import type { WalPosition } from './wal-position.ts'

/**
 * How far replicas must be for somebody: LSNs by the history that they belong to. Absence is never permission: of a
 * history that is not in it no replica is read.
 */
export type Reach = ReadonlyMap<string, bigint>

/** Somebody for whom replicas may be read. */
export interface Reader<DB> {
  /** Asked once, when it is first needed. Null: anything will do that a replica in rotation has. */
  readonly reach: (() => Promise<Reach>) | null
  /** Told of a node that was read on its primary because `reach` says nothing of it. */
  onUnplaced?(node: Node<DB>): void
}

/** Serves the reads of one reader; each makes sure that its own servers do not go back in time. */
export interface ReaderServe<DB> {
  readonly serve: Serve<DB>
  /** The same reader, for what must not be older, on one node, than a position; null: than the present. */
  notBefore(node: Node<DB>, position: WalPosition | null): Serve<DB>
}

interface Least<DB> {
  readonly node: Node<DB>
  readonly position: WalPosition | null
}

type Choice<DB> = Replica<DB> | 'primary' | 'displaced'

/**
 * A node's first read decides where the reader's others of that node go: to the same replica, which only goes on in
 * time, or to the primary, which is ahead of them all. So whoever reads one thing and then what follows from it finds
 * both; and once on the primary, a reader stays there.
 */
export function createReader<DB>(reader: Reader<DB>, metrics: ReplicaMetrics): ReaderServe<DB> {
  const choices = new Map<Node<DB>, Choice<DB>>()
  let asked: Promise<Reach> | undefined

  /** The LSN that replicas of the node must have; null: any; undefined: none is far enough. */
  async function demandOf(node: Node<DB>, set: ReplicaSet<DB>, least: Least<DB> | null): Promise<bigint | null | undefined> {
    const reach = reader.reach === null ? null : await (asked ??= reader.reach())
    const { history } = set
    if (history === undefined) return undefined
    const far = reach === null ? null : reach.get(history)
    if (far === undefined) reader.onUnplaced?.(node)
    if (far === undefined || least?.node !== node) return far
    if (least.position?.history !== history) return undefined
    return far === null || far < least.position.lsn ? least.position.lsn : far
  }

  function choose(set: ReplicaSet<DB>, held: Choice<DB> | undefined, need: Need | null): Choice<DB> {
    if (held === 'primary' || held === 'displaced') return held
    if (need === null) return 'primary'
    if (held !== undefined && set.reaches(held, need)) return held
    if (!set.isStaffed(need.scope)) return 'displaced'
    return (held === undefined ? set.choose(need) : undefined) ?? 'primary'
  }

  const serveFrom = (least: Least<DB> | null): Serve<DB> => async (node, scope, work) => {
    const set = node.replicas
    if (set === null) return work(node.primary)
    const lsn = scope === null ? undefined : await demandOf(node, set, least)
    const choice = choose(set, choices.get(node), scope === null || lsn === undefined ? null : { scope, lsn })
    choices.set(node, choice)
    if (choice === 'displaced') return set.displace(work)
    metrics.read(node.name, choice === 'primary' ? 'primary' : 'replica')
    if (choice === 'primary') return work(node.primary)
    try {
      return await choice.run(work)
    } catch {
      // Whatever it was: a lost connection, a conflict with what is replayed. The primary says it again if it is ours.
      choices.set(node, 'displaced')
      return set.displace(work)
    }
  }

  return { serve: serveFrom(null), notBefore: (node, position) => serveFrom({ node, position }) }
}
