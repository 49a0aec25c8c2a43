import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../logger/logger.ts'
import { noBrokerMetrics, type BrokerMetrics } from './broker-metrics.ts'
import { openLink, type Link } from './link.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import { declareTopology, TopologyError, type Topology } from './topology.ts'

/** `degraded`: work is taken on and waits in the outbox, because the broker is away, takes no publishes or owes confirms. */
export type BrokerHealth = 'ok' | 'degraded'

/** A process's ways to the broker. */
export interface Broker {
  readonly topology: Topology
  /** Carries everything that is published: under an alarm the broker stops reading from it, acknowledgements too. */
  readonly publishing: Link
  /** Carries deliveries and acknowledgements only; connected when first asked for. */
  consuming(): Link
  readonly publisher: Publisher
  readonly publishDeadlineMs: number
  /**
   * Puts the topology in place, once per connection, or `again` (at most once in `PREPARE_MS_MIN`).
   * @throws Error of the broker; TopologyError
   */
  prepare(again?: boolean): Promise<void>
  health(): BrokerHealth
  /** Consumers and relays first. */
  close(): Promise<void>
}

export interface BrokerOptions {
  /** amqp:// or amqps:// */
  readonly url: string
  readonly topology: Topology
  /** Names our connections to whoever looks at the broker. */
  readonly name: string
  readonly log: Logger
  readonly metrics?: BrokerMetrics
  readonly publishDeadlineMs?: number
  /** For the whole topology; tried again by itself when it has passed. */
  readonly topologyDeadlineMs?: number
  readonly windowMessages?: number
  readonly overdueMsMax?: number
}

/** Half is enough for full speed, and one queue alone has half; more only adds to what a crash sends twice. */
const WINDOW_MESSAGES = 512
const PUBLISH_DEADLINE_MS = 10_000
/** So often a queue that does not answer is tried with half a window more. */
const OVERDUE_MS_MAX = 300_000
/** A busy cluster takes some 100 ms for a quorum queue, and we have more than ten. */
const TOPOLOGY_DEADLINE_MS = 15_000
const PREPARE_MS_MIN = 1_000
/**
 * A queue that was deleted is not made anew sooner. A consumer that RabbitMQ (seen with 3.10) has not told of the end yet
 * stays with the new queue of that name, which then counts as delivered what this consumer never gets.
 */
const REMAKE_AFTER_MS = 500
/** Errors by which a broker says that we are not meant to be there: waiting would not help. */
const REFUSALS = new Set(['ACCESS_REFUSED', 'NOT_ALLOWED'])

/**
 * Connects to the broker and puts the topology in place. A broker that is away, or does not answer, keeps no process
 * from starting: work then waits in the outbox, and the rest is tried until it works. Every step has a deadline: half a
 * minute after the call it is settled, whatever the broker does.
 *
 * @throws TopologyError when a queue has other arguments than ours; Error when the broker refuses user or virtual host
 */
export async function openBroker(options: BrokerOptions): Promise<Broker> {
  const { url, topology, name, log, metrics = noBrokerMetrics } = options
  const { publishDeadlineMs = PUBLISH_DEADLINE_MS, topologyDeadlineMs = TOPOLOGY_DEADLINE_MS } = options
  const publishing = openLink({ url, name: `${name} publishing`, log })
  let consuming: Link | undefined
  let prepared: Promise<void> | undefined
  let preparedAtMs = -Infinity

  function prepare(again = false): Promise<void> {
    const nowMs = performance.now()
    if (again && nowMs - preparedAtMs > PREPARE_MS_MIN) prepared = undefined
    if (prepared !== undefined) return prepared
    preparedAtMs = nowMs
    const rested = again ? sleep(REMAKE_AFTER_MS) : Promise.resolve()
    const mine = (prepared = rested.then(() => declareTopology(() => publishing.channel(), topology, topologyDeadlineMs)))
    mine.catch((error: unknown) => {
      if (prepared === mine) prepared = undefined
      if (error instanceof TopologyError) log.error({ err: error }, 'the broker has other queues than ours')
    })
    return mine
  }

  // Another broker may answer under the same name next time, or the same one without its data.
  publishing.onChange((state) => {
    if (state === 'down') prepared = undefined
  })

  let isPrepared: boolean
  try {
    const failure = await publishing.firstTry
    if (failure !== undefined && 'code' in failure && REFUSALS.has(String(failure.code))) {
      throw new Error(`The broker refuses us: ${failure.message}`, { cause: failure })
    }
    isPrepared = failure === undefined && (await isInPlace(prepare(), log))
  } catch (error) {
    await publishing.close()
    throw error
  }

  const publisher = createPublisher({
    link: publishing,
    prepare,
    windowMessages: options.windowMessages ?? WINDOW_MESSAGES,
    deadlineMs: publishDeadlineMs,
    overdueMsMax: options.overdueMsMax ?? OVERDUE_MS_MAX,
    log,
    metrics,
  })
  metrics.linked(publishing.state)
  // Without a topology its first try is our second one, which the boot need not wait for.
  if (isPrepared) await publisher.firstTry

  return {
    topology,
    publishing,
    consuming: () => (consuming ??= openLink({ url, name: `${name} consuming`, log })),
    publisher,
    publishDeadlineMs,
    prepare,
    health: () => (publisher.ready && !publisher.isSilent() ? 'ok' : 'degraded'),
    async close() {
      await publisher.close()
      await Promise.all([consuming?.close(), publishing.close()])
    },
  }
}

/**
 * False when the broker went away while we looked, or does not answer.
 * @throws TopologyError: no waiting mends that
 */
async function isInPlace(prepared: Promise<void>, log: Logger): Promise<boolean> {
  try {
    await prepared
    return true
  } catch (error) {
    if (error instanceof TopologyError) throw error
    log.warn({ err: error }, 'starting without the broker; work waits in the outbox')
    return false
  }
}
