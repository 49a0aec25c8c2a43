import { systemClock } from '#kernel/clock.ts'
import type { Clock } from '#kernel/clock.ts'
import { problem } from '#kernel/errors.ts'
import type { ProblemError } from '#kernel/errors.ts'
import type { Id, Shard } from '#kernel/snowflake.ts'
import type { Logger } from '../logger/logger.ts'
import { NO_TRACE, withTrace } from '../logger/trace.ts'
import { keepLease, type LeaseKeeper } from './lease-keeper.ts'
import type { LeaseSource } from './lease-source.ts'
import { systemSleep } from './sleep.ts'
import type { Sleep } from './sleep.ts'

/** How long a caller waits for a lease that is on its way or about to begin. */
const WAIT_MS_MAX = 5_000
/** How many milliseconds a caller waits for room in its lane; counted, so that a stalled event loop refuses nobody. */
const FULL_MS_MAX = 1_000

/** Where a process gets its ids. */
export interface IdSource {
  /**
   * Mints the next id of a shard, without I/O while the lease holds.
   * @throws ProblemError `ids_unavailable` (503) with `retryAfterSeconds` when there is no lease to mint from
   * @throws RangeError if there is no such shard
   */
  mint(shard: Shard): Promise<Id>
  /** Mints no more and gives the rest of the lease back. */
  close(): Promise<void>
}

export interface IdSourceOptions {
  readonly source: LeaseSource
  /** Names this process in the ledger, for people. */
  readonly holder: string
  /** Sequence numbers in a lane, 1 … 1,024: how many ids a shard can have in one millisecond from this process. */
  readonly laneWidth: number
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly clock?: Pick<Clock, 'monotonicMs'>
  readonly sleep?: Sleep
}

/** Opens a process's source of ids. The first `mint` asks for a lease: a process that mints nothing holds no lane. */
export function openIdSource(options: IdSourceOptions): IdSource {
  const { source, holder, laneWidth, log, clock = systemClock, sleep = systemSleep } = options
  let keeper: LeaseKeeper | undefined
  let closed = false
  let tick: Promise<void> | undefined

  /** One timer for all that wait; they go on in the order in which they came. */
  function nextMillisecond(): Promise<void> {
    tick ??= sleep(1).then(() => {
      tick = undefined
    })
    return tick
  }

  async function mintOrWait(shard: Shard, deadlineMs: number): Promise<Id> {
    // Not in the trace of the request that happens to mint first: the keeper outlives it, and its log lines are nobody's.
    const lease = (keeper ??= withTrace(NO_TRACE, () =>
      keepLease({ source, request: { holder, laneWidth }, clock, sleep, log }),
    ))
    for (let fullMs = 0; ; ) {
      const minted = lease.mint(shard)
      if (typeof minted === 'bigint') return minted
      if (closed) throw unavailable('This process is closing.', 0)
      const leftMs = deadlineMs - clock.monotonicMs()
      switch (minted) {
        case 'wait':
          if (++fullMs > FULL_MS_MAX) throw unavailable('Too many ids are being made on one shard.', 0)
          await nextMillisecond()
          break
        case 'early':
          if (lease.beginsInMs() > leftMs) throw unavailable('The lease has not begun.', lease.beginsInMs())
          await sleep(lease.beginsInMs())
          break
        case 'expired':
        case 'none':
          // While the source is known not to answer, callers are told so at once instead of queueing up.
          if (lease.retryInMs !== undefined) throw unavailable('There is no lease.', lease.retryInMs)
          if (leftMs <= 0) throw unavailable('There is no lease.', 0)
          await lease.attend()
          break
      }
    }
  }

  return {
    async mint(shard) {
      if (closed) throw unavailable('This process is closing.', 0)
      return mintOrWait(shard, clock.monotonicMs() + WAIT_MS_MAX)
    },
    async close() {
      closed = true
      await keeper?.close()
    },
  }
}

function unavailable(reason: string, retryInMs: number): ProblemError {
  return problem('ids_unavailable', `No id can be given out for the moment. ${reason}`, {
    retryAfterSeconds: Math.max(1, Math.ceil(retryInMs / 1_000)),
  })
}
