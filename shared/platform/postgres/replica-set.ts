import type { Kysely } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import { problem } from '#kernel/errors.ts'
import type { DatabaseServer, ReplicaLimits } from '../config/database.ts'
import { withinDeadline } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import { createLagHistory, type LagHistory } from './lag-history.ts'
import type { NodeChanges } from './node-changes.ts'
import { openPool } from './pool.ts'
import type { ReplicaMetrics } from './replica-metrics.ts'
import { createReplica, type Judgement, type Replica } from './replica.ts'
import { readFlushedPosition, type ReplayState, type WalPosition } from './wal-position.ts'

/** What of a node is read. */
export type ReadScope = 'some shards' | 'whole node'

/** What a read needs of a replica. */
export interface Need {
  readonly scope: ReadScope
  /** All that lies before it; null: whatever the replica has. */
  readonly lsn: bigint | null
}

/** The replicas of one node: how far they are, and which of them may be read. */
export interface ReplicaSet<DB> {
  readonly replicas: readonly Replica<DB>[]
  /** The history that the primary writes, as far as is known; positions of another one open nothing. */
  readonly history: string | undefined
  /** False as long as nobody may read any: none is in rotation and has replayed the last change of the node's shards. */
  isStaffed(scope: ReadScope): boolean
  /** True when that replica may be read, and has what is needed. */
  reaches(replica: Replica<DB>, need: Need): boolean
  /** Of those that reach it the one with the fewest reads under way, and then the one that is furthest. */
  choose(need: Need): Replica<DB> | undefined
  /**
   * Runs on the primary what a replica should have served. So many at once, and no more: else a primary that is sized
   * for its own work would go down with its replicas.
   *
   * @throws ProblemError unavailable when it is too many; whatever `work` throws
   */
  displace<T>(work: (db: Kysely<DB>) => Promise<T>): Promise<T>
  /**
   * Begins to look after the replicas, each second; settles after the first look.
   * @param changes when the node's shards last changed in the map that reads go by
   */
  watch(changes: () => NodeChanges): Promise<void>
  close(): Promise<void>
}

export interface ReplicaSetOptions<DB> extends ReplicaLimits {
  readonly node: string
  readonly primary: Kysely<DB>
  readonly servers: readonly DatabaseServer[]
  /** Connections to each replica, at least 2. */
  readonly poolMax: number
  readonly applicationName: string
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly metrics: ReplicaMetrics
}

const LOOK_MS = 1_000
const LOOK_CONNECTIONS = 1
const SAMPLE_DEADLINE_MS = 1_000
/** A read that takes longer on a replica is run again on the primary. */
const QUERY_TIMEOUT_MS = 5_000
const RETRY_SECONDS = 1

/** What the primary was seen to have. */
interface PrimaryView {
  readonly history: string
  readonly lag: LagHistory
  readonly lsn: bigint
  /**
   * Where its log ended after we had learnt of a change of the node's shards. A replica that is not there may not have
   * shards yet that have come, and would show nothing of them; and a node-wide read would still find those that have gone.
   */
  readonly floors: Readonly<Record<ReadScope, Floor>>
}

interface Floor {
  readonly mapVersion: bigint
  readonly lsn: bigint
}

export function openReplicaSet<DB>(options: ReplicaSetOptions<DB>, log: Logger): ReplicaSet<DB> {
  const { node, primary, clock, metrics, lagMsMax, displacedReadsMax, poolMax, applicationName } = options
  const replicas = options.servers.map(({ name, url, preparedStatements = false }) => {
    const open = (max: number): Kysely<DB> =>
      openPool<DB>({ url, max, applicationName, preparedStatements, queryTimeoutMs: QUERY_TIMEOUT_MS }, log)
    return createReplica(name, { reads: open(poolMax - LOOK_CONNECTIONS), looks: open(LOOK_CONNECTIONS) }, log)
  })
  let view: PrimaryView | undefined
  let versionOf: (scope: ReadScope) => bigint = () => 0n
  let sampling: Promise<WalPosition> | undefined
  let displaced = 0
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | undefined

  /** Asks the primary where its log ends. While it does not say, what it last said stands. */
  async function sample(): Promise<void> {
    const atMs = clock.monotonicMs()
    // Before the question: what the answer has is no older than those versions.
    const versions = { 'some shards': versionOf('some shards'), 'whole node': versionOf('whole node') }
    sampling ??= readFlushedPosition(primary).finally(() => (sampling = undefined))
    const position = await withinDeadline(sampling, SAMPLE_DEADLINE_MS).catch(() => undefined)
    if (position === undefined) return
    const { history, lsn } = position
    const before = view?.history === history ? view : undefined
    const floorOf = (scope: ReadScope): Floor => {
      const known = before?.floors[scope]
      return known?.mapVersion === versions[scope] ? known : { mapVersion: versions[scope], lsn }
    }
    const floors = { 'some shards': floorOf('some shards'), 'whole node': floorOf('whole node') }
    view = { history, lag: before?.lag ?? createLagHistory(), lsn, floors }
    view.lag.note(lsn, atMs)
  }

  function judge({ isReplica, position }: ReplayState): Judgement {
    if (!isReplica) return { standing: 'promoted', lag: undefined }
    if (view === undefined || position.history !== view.history) return { standing: 'astray', lag: undefined }
    const ms = view.lag.lagMs(position.lsn)
    const bytes = Number(view.lsn > position.lsn ? view.lsn - position.lsn : 0n)
    if (ms === undefined) return { standing: 'behind', lag: undefined }
    return { standing: ms > lagMsMax ? 'behind' : 'in rotation', lag: { bytes, ms } }
  }

  async function look(): Promise<void> {
    await sample()
    await Promise.all(replicas.map((replica) => replica.look(judge)))
    for (const { name, standing, lag } of replicas) metrics.replica(name, { inRotation: standing === 'in rotation', lag })
  }

  function reaches({ standing, position }: Replica<DB>, { scope, lsn }: Need): boolean {
    if (standing !== 'in rotation' || position === undefined || view === undefined) return false
    const floor = view.floors[scope]
    if (position.history !== view.history || floor.mapVersion !== versionOf(scope)) return false
    return position.lsn >= floor.lsn && (lsn === null || position.lsn >= lsn)
  }

  return {
    replicas,
    get history() {
      return view?.history
    },
    isStaffed: (scope) => replicas.some((replica) => reaches(replica, { scope, lsn: null })),
    reaches,
    choose(need) {
      let best: Replica<DB> | undefined
      for (const replica of replicas) {
        if (reaches(replica, need) && (best === undefined || isBetter(replica, best))) best = replica
      }
      return best
    },
    async displace(work) {
      if (displaced >= displacedReadsMax) {
        metrics.read(node, 'shed')
        throw problem('unavailable', 'Too many reads wait for the database.', { retryAfterSeconds: RETRY_SECONDS })
      }
      metrics.read(node, 'displaced')
      displaced++
      try {
        return await work(primary)
      } finally {
        displaced--
      }
    },
    async watch(changes) {
      versionOf = (scope) => (scope === 'some shards' ? changes().arrived : changes().changed)
      await look()
      timer = setInterval(() => {
        looking ??= look().finally(() => (looking = undefined))
      }, LOOK_MS)
      timer.unref()
    },
    async close() {
      clearInterval(timer)
      await looking
      await sampling?.catch(() => undefined)
      await Promise.all(replicas.map((replica) => replica.close()))
    },
  }
}

function isBetter<DB>(one: Replica<DB>, other: Replica<DB>): boolean {
  return one.load < other.load || (one.load === other.load && (one.position?.lsn ?? 0n) > (other.position?.lsn ?? 0n))
}
