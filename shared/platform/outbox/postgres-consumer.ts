import { randomUUID } from 'node:crypto'
import type { QueryExecutorProvider } from 'kysely'
import type { Clock } from '#kernel/clock.ts'
import { endWithin } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import { claimRows, hasWork, renewClaims, type Claim } from './claims.ts'
import type { JobMetrics } from './job-metrics.ts'
import { createPulse, type Pulse } from './pulse.ts'
import { runJob, ShutdownError, type JobRules } from './run-job.ts'
import { createSettler, type Settler } from './settler.ts'
import type { Consumer, Outcome } from './transport.ts'

/** A PostgreSQL server whose outbox is polled. */
export interface OutboxNode {
  readonly name: string
  readonly primary: QueryExecutorProvider
}

export interface PostgresConsumerOptions extends JobRules {
  readonly queue: string
  readonly concurrency: number
  readonly batch: number
  /** What a claim lasts at least unless it is renewed: at twice that, others have taken the jobs of a killed worker. */
  readonly claimMs: number
  /** How long a close waits for the handlers that run. */
  readonly closeMs: number
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: JobMetrics
}

/** The consumer as its transport sees it. */
export interface PostgresConsumer extends Consumer {
  wake(): void
}

const IDLE_MS_MIN = 50
const IDLE_MS_MAX = 500
const ERROR_MS_MIN = 100
const ERROR_MS_MAX = 5_000
/** A claim is renewed three times in its life, so that two may fail before it runs out under a handler at work. */
const RENEWALS_PER_CLAIM = 3
/** A job that waited so long for a slot is given back rather than begun: another worker may have one free. */
const SLOT_WAIT_MS_MAX = 5_000
/** What a close allows for writing the last outcomes. */
const FLUSH_MS_MAX = 3_000
const DRAIN_POLL_MS = 20

/** One node's part of the consumer. `held` counts claims whose outcome is not yet written. */
interface Source {
  readonly node: OutboxNode
  /** Waiting for a slot or running: what has to be renewed. */
  readonly unsettled: Set<Claim>
  readonly settler: Settler
  readonly room: Pulse
  readonly work: Pulse
  held: number
}

interface HeldJob {
  readonly claim: Claim
  readonly source: Source
  readonly claimedAtMs: number
}

/** Polls one queue on every node and runs its jobs; see `postgresTransport`. */
export function startPostgresConsumer(nodes: readonly OutboxNode[], options: PostgresConsumerOptions): PostgresConsumer {
  const { queue, concurrency, claimMs, clock, log, metrics } = options
  // Any one node may fill every slot; a full batch is shared out, so that one node's backlog never shuts out another's.
  const share = Math.max(concurrency, Math.ceil(options.batch / nodes.length))
  const ready: HeldJob[] = []
  const running = new Map<HeldJob, AbortController>()
  const idle = Promise.withResolvers<undefined>()
  let closing: Promise<void> | undefined

  const sources = nodes.map((node): Source => {
    const room = createPulse()
    const source: Source = {
      node,
      unsettled: new Set(),
      room,
      work: createPulse(),
      held: 0,
      settler: createSettler(node.primary, { queue, log, metrics, onSettled }),
    }
    function onSettled(count: number): void {
      source.held -= count
      room.fire()
    }
    return source
  })

  /** Waits until a claim is worth its statement: half of the share is free, or slots stand empty. */
  async function roomFor(source: Source): Promise<number> {
    for (;;) {
      const room = share - source.held
      const starving = sources.reduce((sum, { held }) => sum + held, 0) < concurrency
      if (closing !== undefined || (room > 0 && (room * 2 >= share || starving))) return room
      await source.room.wait()
    }
  }

  async function poll(source: Source): Promise<void> {
    let idleMs = IDLE_MS_MIN
    let errorMs = ERROR_MS_MIN
    for (;;) {
      const limit = await roomFor(source)
      if (closing !== undefined) return
      const claimedAtMs = clock.monotonicMs()
      try {
        const claims = await claimRows(source.node.primary, { queue, limit, visibilityMs: claimMs, token: randomUUID() })
        errorMs = ERROR_MS_MIN
        hold(claims.map((claim) => ({ claim, source, claimedAtMs })))
        if (claims.length > 0) {
          idleMs = IDLE_MS_MIN
          continue
        }
      } catch (error) {
        log.warn({ err: error, queue, node: source.node.name, retryInMs: errorMs }, 'could not claim jobs')
        await source.work.wait(errorMs)
        errorMs = Math.min(errorMs * 2, ERROR_MS_MAX)
        continue
      }
      await source.work.wait(idleMs)
      idleMs = Math.min(idleMs * 2, IDLE_MS_MAX)
    }
  }

  function hold(jobs: readonly HeldJob[]): void {
    if (jobs.length === 0) return
    for (const { claim, source } of jobs) {
      source.held++
      source.unsettled.add(claim)
    }
    metrics.claimed(queue, jobs.length)
    ready.push(...jobs)
    if (closing === undefined) fillSlots()
    else returnReady()
  }

  function fillSlots(): void {
    // Spliced in one go: shifting an array of hundreds one by one costs more than a small job.
    for (const job of ready.splice(0, concurrency - running.size)) void run(job)
  }

  async function run(job: HeldJob): Promise<void> {
    const startMs = clock.monotonicMs()
    if (startMs - job.claimedAtMs > SLOT_WAIT_MS_MAX) {
      settle(job, { kind: 'returned' })
    } else {
      const abort = new AbortController()
      running.set(job, abort)
      const outcome = await runJob(job.claim.delivery, options, abort)
      metrics.ran(queue, job.claim.delivery.event, (clock.monotonicMs() - startMs) / 1_000)
      // Gone from `running` when a close gave the job back in the meantime.
      if (running.delete(job)) settle(job, outcome)
    }
    if (closing === undefined) fillSlots()
    else if (running.size === 0) idle.resolve(undefined)
  }

  function settle({ claim, source }: HeldJob, outcome: Outcome): void {
    source.unsettled.delete(claim)
    source.settler.settle(claim, outcome)
  }

  /** Keeps the claims of what waits or runs; a handler's deadline bounds how often. */
  async function renew({ node, unsettled }: Source): Promise<void> {
    if (unsettled.size === 0) return
    try {
      await renewClaims(node.primary, [...unsettled], claimMs)
    } catch (error) {
      log.warn({ err: error, queue, node: node.name }, 'could not renew the claims of running jobs')
    }
  }

  function returnReady(): void {
    for (const job of ready.splice(0)) settle(job, { kind: 'returned' })
  }

  async function close(): Promise<void> {
    returnReady()
    for (const { room, work } of sources) {
      room.fire()
      work.fire()
    }
    if (running.size > 0) await endWithin(idle.promise, options.closeMs)
    for (const [job, abort] of running) {
      running.delete(job)
      settle(job, { kind: 'returned' })
      abort.abort(new ShutdownError())
    }
    const written = Promise.all(polls).then(() => Promise.all(sources.map(({ settler }) => settler.flushed())))
    await endWithin(written, FLUSH_MS_MAX)
    for (const { settler } of sources) settler.stop()
    clearInterval(renewal)
  }

  const polls = sources.map(poll)
  const renewal = setInterval(() => void Promise.all(sources.map(renew)), claimMs / RENEWALS_PER_CLAIM)

  return {
    queue,
    wake() {
      for (const { work } of sources) work.fire()
    },
    close: () => (closing ??= Promise.resolve().then(close)),
    async drained() {
      for (;;) {
        const found = await Promise.all(sources.map(({ node }) => hasWork(node.primary, queue)))
        if (!found.includes(true)) return
        for (const { work } of sources) work.fire()
        await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS))
      }
    },
  }
}
