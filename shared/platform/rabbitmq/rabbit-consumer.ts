import { setTimeout as sleep } from 'node:timers/promises'
import type { AsyncMessage } from 'rabbitmq-client'
import type { Clock } from '#kernel/clock.ts'
import { endWithin } from '../lifecycle/deadline.ts'
import type { Logger } from '../logger/logger.ts'
import { hasWork } from '../outbox/claims.ts'
import type { JobEnd, JobMetrics } from '../outbox/job-metrics.ts'
import type { OutboxNode } from '../outbox/postgres-consumer.ts'
import { runJob, ShutdownError, type JobRules } from '../outbox/run-job.ts'
import type { Consumer, Outcome } from '../outbox/transport.ts'
import type { Broker } from './broker.ts'
import { fromMessage, type Received, type WireMessage } from './message-form.ts'
import { subscribe, type Session } from './subscription.ts'
import { DEAD_EXCHANGE, retryExchange, WORK_EXCHANGE, workQueue } from './topology.ts'

export interface RabbitConsumerOptions extends JobRules {
  readonly queue: string
  readonly concurrency: number
  /** Messages delivered to us at once, waiting, running or unsettled. */
  readonly prefetch: number
  /** How long a close waits for the handlers that run. */
  readonly closeMs: number
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: JobMetrics
}

/** What a close allows for sending the last outcomes. */
const FLUSH_MS_MAX = 3_000
const PUBLISH_RETRY_MS = 500
/**
 * What so many consumers died with is sent round by the wait queues before it is tried again: one message ends its
 * worker, the others were only delivered beside it, and coming back together they would share its end each time.
 */
const CRASHES_MAX = 2
const DRAIN_POLL_MS = 20

interface HeldJob {
  readonly received: Received
  readonly session: Session
  readonly tag: number
}

/**
 * Consumes one queue; see `rabbitTransport`. A retry and a dead letter are published, confirmed, before their delivery
 * is acknowledged; until then, and if the process dies, the broker has the message. A job given back is published
 * anew too, since the broker would count its return as an attempt.
 *
 * @param nodes whose outboxes `drained` watches
 */
export function startRabbitConsumer(broker: Broker, nodes: readonly OutboxNode[], options: RabbitConsumerOptions): Consumer {
  const { queue, concurrency, prefetch, clock, log, metrics } = options
  const { publisher, topology } = broker
  let ready: HeldJob[] = []
  const running = new Map<HeldJob, AbortController>()
  const settling = new Set<Promise<void>>()
  const idle = Promise.withResolvers<undefined>()
  const hurry = new AbortController()
  let arrivals = 0
  let closing: Promise<void> | undefined

  const subscription = subscribe({
    link: broker.consuming(),
    prepare: (again) => broker.prepare(again),
    queue: workQueue(queue),
    prefetch,
    onMessage: hold,
    log,
  })

  function hold(message: AsyncMessage, session: Session): void {
    arrivals++
    metrics.claimed(queue, 1)
    const job = { received: fromMessage(message), session, tag: message.deliveryTag }
    if (closing !== undefined) settle(job, { kind: 'returned' })
    else if (job.received.crashes >= CRASHES_MAX) scatter(job)
    else if (running.size < concurrency) void run(job)
    else ready.push(job)
  }

  function fillSlots(): void {
    while (running.size < concurrency) {
      const job = ready.shift()
      if (job === undefined) return
      // Those of a lost channel are with the broker again.
      if (!job.session.ended.aborted) void run(job)
    }
  }

  async function run(job: HeldJob): Promise<void> {
    const startMs = clock.monotonicMs()
    const abort = new AbortController()
    running.set(job, abort)
    const outcome = await runJob(job.received.delivery, options, abort)
    metrics.ran(queue, job.received.delivery.event, (clock.monotonicMs() - startMs) / 1_000)
    // Gone from `running` when a close gave the job back in the meantime.
    if (running.delete(job)) settle(job, outcome)
    if (closing === undefined) fillSlots()
    else if (running.size === 0) idle.resolve(undefined)
  }

  function settle(job: HeldJob, outcome: Outcome): void {
    if (outcome.kind === 'done') {
      finish(job, 'done')
      return
    }
    const { wire, delivery } = job.received
    const { attempt: attempts } = delivery
    switch (outcome.kind) {
      case 'retry': {
        const exchange = retryExchange(topology, outcome.delayMs)
        sendOn(job, { ...wire, queue, exchange, attempts, failure: outcome.failure }, 'retried')
        break
      }
      case 'dead':
        sendOn(job, { ...wire, queue, exchange: DEAD_EXCHANGE, attempts, failure: outcome.failure }, 'dead')
        break
      case 'returned':
        sendOn(job, { ...wire, queue, exchange: WORK_EXCHANGE, attempts: attempts - 1 }, 'returned')
        break
    }
  }

  function scatter(job: HeldJob): void {
    const { wire, delivery } = job.received
    const attempts = delivery.attempt - 1
    const exchange = retryExchange(topology, options.delayMs(attempts))
    sendOn(job, { ...wire, queue, exchange, attempts }, 'returned')
  }

  function sendOn(job: HeldJob, message: WireMessage, end: JobEnd): void {
    const sending = publishUntilTaken(message, job.session)
      .then((isTaken) => {
        if (isTaken) finish(job, end)
        else metrics.ended(queue, 'lost', 1)
      })
      .finally(() => settling.delete(sending))
    settling.add(sending)
  }

  /** False when it was given up, because the delivery is no longer ours to settle. */
  async function publishUntilTaken(message: WireMessage, { ended }: Session): Promise<boolean> {
    const stop = AbortSignal.any([ended, hurry.signal])
    while (!stop.aborted) {
      const end = await publisher.publish(message)
      if (end === 'confirmed') return true
      log.warn({ queue, end, exchange: message.exchange }, 'could not send a message on; trying again')
      if (end === 'returned') void broker.prepare(true).catch(() => undefined)
      await sleep(PUBLISH_RETRY_MS, undefined, { signal: stop }).catch(() => undefined)
    }
    return false
  }

  function finish({ session, tag }: HeldJob, end: JobEnd): void {
    metrics.ended(queue, session.ended.aborted ? 'lost' : end, 1)
    session.ack(tag)
  }

  async function close(): Promise<void> {
    await subscription.cancel()
    const waiting = ready
    ready = []
    for (const job of waiting) settle(job, { kind: 'returned' })
    if (running.size > 0) await endWithin(idle.promise, options.closeMs)
    for (const [job, abort] of running) {
      running.delete(job)
      settle(job, { kind: 'returned' })
      abort.abort(new ShutdownError())
    }
    await endWithin(Promise.all(settling), FLUSH_MS_MAX)
    hurry.abort()
    await subscription.close()
  }

  /** True if nothing of the queue is in an outbox, on the broker and due, or with us. */
  async function isDrained(): Promise<boolean> {
    const { session } = subscription
    const before = arrivals
    if (session === undefined || session.unsettled > 0) return false
    const found = await Promise.all(nodes.map(({ primary }) => hasWork(primary, queue)))
    if (found.includes(true)) return false
    // Twice, for a delivery may overtake the first answer but not the second.
    for (let look = 0; look < 2; look++) {
      const { messageCount } = await session.channel.queueDeclare({ queue: workQueue(queue), passive: true })
      if (messageCount > 0) return false
    }
    return arrivals === before && session.unsettled === 0 && settling.size === 0
  }

  return {
    queue,
    close: () => (closing ??= Promise.resolve().then(close)),
    async drained() {
      while (!(await isDrained().catch(() => false))) await sleep(DRAIN_POLL_MS)
    },
  }
}
