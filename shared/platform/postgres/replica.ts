import type { Kysely } from 'kysely'
import { withinDeadline } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import { isRolledBack } from './database-errors.ts'
import { isDatabaseUnavailable } from './database-unavailable.ts'
import type { ReplicaLag } from './replica-metrics.ts'
import { readReplayState, type ReplayState, type WalPosition } from './wal-position.ts'

/** Why a replica is read or not. */
export type ReplicaStanding =
  | 'in rotation'
  /** It does not answer. */
  | 'down'
  /** It has been promoted. */
  | 'promoted'
  /** It replays another log than the one that its primary writes. */
  | 'astray'
  /** It is further behind than it may be. */
  | 'behind'

/** One streaming replica, as this process knows it. */
export interface Replica<DB> {
  readonly name: string
  readonly standing: ReplicaStanding
  /** How far it is known to have replayed; it may be further. */
  readonly position: WalPosition | undefined
  readonly lag: ReplicaLag | undefined
  /** Reads that are under way on it. */
  readonly load: number
  /** Asks it how far it is; one that does not answer in time is down. */
  look(judge: (state: ReplayState) => Judgement): Promise<void>
  /**
   * Runs a read on it; gives the read up when the replica leaves rotation meanwhile. A lost connection is such a reason.
   *
   * @throws whatever `work` throws, and Error when it is given up
   */
  run<T>(work: (db: Kysely<DB>) => Promise<T>): Promise<T>
  close(): Promise<void>
}

export interface Judgement {
  readonly standing: ReplicaStanding
  readonly lag: ReplicaLag | undefined
}

const LOOK_DEADLINE_MS = 1_500

/** The connections to a replica, which closes them. */
export interface ReplicaPools<DB> {
  readonly reads: Kysely<DB>
  /** One connection of its own: else a replica that has much to do would seem to be down, and its primary get it all. */
  readonly looks: Kysely<DB>
}

export function createReplica<DB>(
  name: string,
  { reads, looks }: ReplicaPools<DB>,
  log: Pick<Logger, 'info' | 'warn'>,
): Replica<DB> {
  let standing: ReplicaStanding = 'down'
  let position: WalPosition | undefined
  let lag: ReplicaLag | undefined
  let looking: Promise<ReplayState> | undefined
  const givingUp = new Set<(error: Error) => void>()

  function stand(next: ReplicaStanding, cause?: unknown): void {
    if (next === standing) return
    standing = next
    if (next === 'in rotation') log.info({ replica: name }, 'a replica is read')
    else log.warn({ replica: name, standing: next, ...(cause !== undefined && { err: cause }) }, 'a replica is not read')
    if (next !== 'down') return
    for (const giveUp of givingUp) giveUp(new Error(`The replica ${name} does not answer.`))
  }

  return {
    name,
    get standing() {
      return standing
    },
    get position() {
      return position
    },
    get lag() {
      return lag
    },
    get load() {
      return givingUp.size
    },
    async look(judge) {
      // A question that has not been answered yet is not asked again.
      looking ??= readReplayState(looks).finally(() => (looking = undefined))
      try {
        const state = await withinDeadline(looking, LOOK_DEADLINE_MS)
        const judged = judge(state)
        position = state.position
        lag = judged.lag
        stand(judged.standing)
      } catch (error) {
        lag = undefined
        stand('down', error)
      }
    },
    async run(work) {
      const given = Promise.withResolvers<never>()
      givingUp.add(given.reject)
      try {
        return await Promise.race([work(reads), given.promise])
      } catch (error) {
        // Until the next look says otherwise. A server that answers, even with an error, is there.
        if (isDatabaseUnavailable(error) && !isRolledBack(error)) stand('down', error)
        throw error
      } finally {
        givingUp.delete(given.reject)
      }
    },
    async close() {
      await looking?.catch(() => undefined)
      await Promise.all([reads.destroy(), looks.destroy()])
    },
  }
}
