import type { Clock } from '#kernel/clock.ts'
import { createIdMinter } from '#kernel/id-minter.ts'
import type { IdMinter, NoId } from '#kernel/id-minter.ts'
import type { Id, Shard } from '#kernel/snowflake.ts'
import type { Logger } from '../logger/logger.ts'
import { createIdClock } from './id-clock.ts'
import type { Grant, LeaseRequest, LeaseSource } from './lease-source.ts'
import { withDeadline } from './sleep.ts'
import type { Sleep } from './sleep.ts'

const SOURCE_DEADLINE_MS = 5_000
const RETRY_MS = 1_000

export interface LeaseKeeperOptions {
  readonly source: LeaseSource
  readonly request: LeaseRequest
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly sleep: Sleep
  readonly log: Pick<Logger, 'info' | 'warn'>
}

/** Holds a lease at all times, as far as the source lets it, and mints from it. */
export interface LeaseKeeper {
  /** The next id, or why there is none: `none` without a lease. */
  mint(shard: Shard): Id | NoId | 'none'
  /** Milliseconds until the lease at hand begins; 0 if it has, or if there is none. */
  beginsInMs(): number
  /** Milliseconds until the source is asked again after a refusal or an error; undefined if it last gave a lease. */
  readonly retryInMs: number | undefined
  /** Sees to the lease now instead of when it is due; resolves when that is done, whatever came of it. */
  attend(): Promise<void>
  /** Gives the rest of the lease back. */
  close(): Promise<void>
}

/** A lease in hand. */
interface Tenure {
  readonly leaseId: string
  readonly minter: IdMinter
  renewAtMs: number
}

/** Starts keeping a lease: asks at once, renews at half-life, takes a new one when a renewal is refused. */
export function keepLease({ source, request, clock, sleep, log }: LeaseKeeperOptions): LeaseKeeper {
  const idClock = createIdClock(clock)
  const closing = new AbortController()
  /** The lease in use, and perhaps one that begins when it ends. */
  let tenures: Tenure[] = []
  let retryInMs: number | undefined
  let rest = new AbortController()
  let round = Promise.withResolvers<undefined>()

  const loop = keep()

  async function keep(): Promise<void> {
    while (!closing.signal.aborted) {
      const pauseMs = await tend()
      rest = new AbortController()
      round.resolve(undefined)
      round = Promise.withResolvers()
      await sleep(pauseMs, AbortSignal.any([closing.signal, rest.signal]))
    }
    round.resolve(undefined)
  }

  /** Renews or acquires if it is time to; returns how long nothing is due. */
  async function tend(): Promise<number> {
    try {
      const held = tenures.at(-1)
      if (held !== undefined && idClock.nowMs() < held.renewAtMs) return held.renewAtMs - idClock.nowMs()
      const failed = retryInMs !== undefined
      const pauseMs = (held && (await renew(held))) ?? (await acquire())
      if (failed && retryInMs === undefined) log.info('the id lease is back')
      return pauseMs
    } catch (error) {
      log.warn({ err: error }, 'no answer about the id lease')
      retryInMs = RETRY_MS
      return RETRY_MS
    }
  }

  /** Undefined if the lease cannot go on. */
  async function renew(held: Tenure): Promise<number | undefined> {
    if (idClock.nowMs() >= held.minter.rectangle.untilMs) return undefined
    const renewed = await withDeadline(source.renew(held.leaseId), SOURCE_DEADLINE_MS, sleep, () => undefined)
    if (renewed === undefined) return undefined
    if (!idClock.follow(renewed.ledgerNowMs)) {
      // The ledger's clock was set back. This lease's ids are ahead of it, and would have to wait until it catches up.
      tenures = tenures.filter((tenure) => tenure !== held)
      await giveBack(held)
      return undefined
    }
    held.minter.extend(renewed.rectangle.untilMs)
    held.renewAtMs = halfLifeMs(renewed)
    retryInMs = undefined
    return Math.max(0, held.renewAtMs - idClock.nowMs())
  }

  async function acquire(): Promise<number> {
    const answer = await withDeadline(source.grant(request), SOURCE_DEADLINE_MS, sleep, (late) => {
      if (late.leaseId !== null) source.release(late.leaseId, late.rectangle.fromMs).catch(() => undefined)
    })
    if (answer.leaseId === null) {
      log.warn({ freeInMs: answer.freeInMs, laneWidth: request.laneWidth }, 'no id lane is free')
      retryInMs = Math.max(RETRY_MS, answer.freeInMs)
      return RETRY_MS
    }
    adopt(answer)
    retryInMs = undefined
    return Math.max(0, halfLifeMs(answer) - idClock.nowMs())
  }

  function adopt(grant: Grant): void {
    const rising = idClock.follow(grant.ledgerNowMs)
    if (!rising) idClock.set(grant.ledgerNowMs)
    const minter = createIdMinter(grant.rectangle, () => idClock.nowMs())
    const tenure = { leaseId: grant.leaseId, minter, renewAtMs: halfLifeMs(grant) }
    // After a failover a lease begins a while from now: the one at hand serves until then.
    const later = rising && grant.rectangle.fromMs > idClock.nowMs()
    tenures = later ? [...tenures.slice(0, 1), tenure] : [tenure]
  }

  function mint(shard: Shard): Id | NoId | 'none' {
    const [tenure] = tenures
    if (tenure === undefined || closing.signal.aborted) return 'none'
    const minted = tenure.minter.mint(shard)
    if (minted !== 'expired' || tenures.length === 1) return minted
    tenures = tenures.slice(1)
    return mint(shard)
  }

  async function giveBack({ leaseId, minter }: Tenure): Promise<void> {
    try {
      const released = source.release(leaseId, minter.usedUntilMs())
      await withDeadline(released, SOURCE_DEADLINE_MS, sleep, () => undefined)
    } catch (error) {
      log.warn({ err: error }, 'the rest of an id lease was not given back; it expires by itself')
    }
  }

  return {
    get retryInMs() {
      return retryInMs
    },

    mint,

    beginsInMs() {
      const [tenure] = tenures
      return tenure === undefined ? 0 : Math.max(0, tenure.minter.rectangle.fromMs - idClock.nowMs())
    },

    async attend() {
      const done = round.promise
      rest.abort()
      await done
    },

    async close() {
      closing.abort()
      await loop
      await Promise.all(tenures.map(giveBack))
      tenures = []
    },
  }
}

function halfLifeMs({ rectangle, ledgerNowMs }: Grant): number {
  return (Math.max(rectangle.fromMs, ledgerNowMs) + rectangle.untilMs) / 2
}
