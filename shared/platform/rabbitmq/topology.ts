import type { Channel } from 'rabbitmq-client'
import { DELAY_STEPS_MS } from '#kernel/backoff.ts'
import { endWithin } from '../lifecycle/deadline.ts'
import { answerWithin } from './broker-silent.ts'

/**
 * Everything that we have on a broker:
 *
 *   work exchange ──routing key = queue──► one queue per kind of work ──► consumers
 *        ▲                                      │ delivered too often, and by us when attempts are used up
 *        │ after its time                       ▼
 *   one wait queue per delay step ◄──┐     dead exchange ──► dead queue ──► the dead_letters table of a node
 *        consumers, for a retry ─────┘
 *
 * A message keeps its routing key, the name of its work queue, on all of these ways. All queues are quorum queues and
 * dead-letter at least once: the broker forgets a message here only when it has it there. What a full queue refuses
 * stays in the outbox. Everything works from RabbitMQ 3.10 on: there is no delayed retry before 4.3.
 */
export interface Topology {
  /** The names of the queues of work, as the events know them. */
  readonly queues: readonly string[]
  /** The delays for which there are wait queues, ascending. */
  readonly delayStepsMs: readonly number[]
}

const PREFIX = 'monogram'
export const WORK_EXCHANGE = `${PREFIX}.work`
export const DEAD_EXCHANGE = `${PREFIX}.dead`
export const DEAD_QUEUE = `${PREFIX}.dead`
export const LEASE_QUEUE = `${PREFIX}.leases`

/**
 * Redeliveries without an answer (crashes, mostly) before the broker itself gives a message up. Above the attempts that
 * we give it, those of a failing hook included, so that it is we who bury it, with its reason.
 */
export const DELIVERY_LIMIT = 20
/**
 * For letters, which nothing may take from us: as good as none. From RabbitMQ 4.0 on a queue that does not say drops a
 * message at its 20th redelivery; "none" can be said to 4.x only.
 */
const LETTER_DELIVERY_LIMIT = 1_000_000
/** A queue that long refuses more, and the rest waits in the outbox. */
const QUEUE_MESSAGES_MAX = 1_000_000
/** A request for a lease is of no use to anybody later. */
const LEASE_REQUEST_TTL_MS = 5_000
const LEASE_REQUESTS_MAX = 10_000
const CLOSE_MS = 1_000

/** The topology for these queues of work, with the kernel's delay steps. */
export function topologyOf(queues: readonly string[], delayStepsMs: readonly number[] = DELAY_STEPS_MS): Topology {
  return { queues, delayStepsMs }
}

/** The broker's name of a queue of work. */
export function workQueue(queue: string): string {
  return `${PREFIX}.${queue}`
}

/** The exchange, and also the queue behind it, for messages that wait so long. */
function waitExchange(delayMs: number): string {
  return `${PREFIX}.wait.${delayMs}ms`
}

/** The exchange for a retry after `delayMs`: of the first step that is long enough, or of work itself for 0. */
export function retryExchange({ delayStepsMs }: Topology, delayMs: number): string {
  if (delayMs <= 0) return WORK_EXCHANGE
  const step = delayStepsMs.find((ms) => ms >= delayMs) ?? delayStepsMs.at(-1)
  return step === undefined ? WORK_EXCHANGE : waitExchange(step)
}

/** A queue of the broker's that has other arguments than ours: only a person can say what becomes of it. */
export class TopologyError extends Error {
  readonly code = 'topology'

  constructor(message: string, options: ErrorOptions) {
    super(message, options)
    this.name = 'TopologyError'
  }
}

/**
 * Declares whatever is missing and checks what is there. What was declared before an error stays.
 *
 * @param open opens a channel of its own, which is closed again
 * @param deadlineMs for all of it, opening aside
 * @throws TopologyError that names what has other arguments, which, and the cure; BrokerSilentError at the deadline, with
 *   what it waited for
 */
export async function declareTopology(open: () => Promise<Channel>, topology: Topology, deadlineMs: number): Promise<void> {
  const channel = await open()
  let at = ''
  try {
    const declared = declareAll(channel, topology, (name) => (at = name))
    await answerWithin(declared, deadlineMs, () => `declaring ${at}`)
  } catch (error) {
    throw explain(error)
  } finally {
    await endWithin(channel.close(), CLOSE_MS)
  }
}

/** @param begin is told the name of each part before it is declared */
async function declareAll(channel: Channel, topology: Topology, begin: (name: string) => void): Promise<void> {
  const exchange = (name: string, type: string): Promise<void> => {
    begin(name)
    return channel.exchangeDeclare({ exchange: name, type, durable: true })
  }
  const queue = async (name: string, args: QueueArguments): Promise<void> => {
    begin(name)
    await channel.queueDeclare({ queue: name, durable: true, arguments: args })
  }
  await exchange(WORK_EXCHANGE, 'direct')
  await exchange(DEAD_EXCHANGE, 'fanout')
  await queue(DEAD_QUEUE, { ...QUORUM, 'x-single-active-consumer': true, 'x-delivery-limit': LETTER_DELIVERY_LIMIT })
  await channel.queueBind({ exchange: DEAD_EXCHANGE, queue: DEAD_QUEUE })
  for (const work of topology.queues) {
    await queue(workQueue(work), { ...deadLetteringTo(DEAD_EXCHANGE), 'x-delivery-limit': DELIVERY_LIMIT })
    await channel.queueBind({ exchange: WORK_EXCHANGE, queue: workQueue(work), routingKey: work })
  }
  for (const delayMs of topology.delayStepsMs) {
    const name = waitExchange(delayMs)
    await exchange(name, 'fanout')
    await queue(name, { ...deadLetteringTo(WORK_EXCHANGE), 'x-message-ttl': delayMs })
    await channel.queueBind({ exchange: name, queue: name })
  }
  // Not a quorum queue: requests live for seconds, and an answer that nobody gives is found elsewhere.
  await queue(LEASE_QUEUE, { 'x-queue-type': 'classic', 'x-message-ttl': LEASE_REQUEST_TTL_MS, 'x-max-length': LEASE_REQUESTS_MAX })
}

type QueueArguments = Record<string, string | number | boolean>

/** The type is always said: a virtual host may have any default. */
const QUORUM: QueueArguments = { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish', 'x-max-length': QUEUE_MESSAGES_MAX }

function deadLetteringTo(exchange: string): QueueArguments {
  return { ...QUORUM, 'x-dead-letter-exchange': exchange, 'x-dead-letter-strategy': 'at-least-once' }
}

/** RabbitMQ says: inequivalent arg 'x-…' for queue '…' in vhost '…': received … but current is …  */
const MISMATCH = /inequivalent arg '([^']+)' for (queue|exchange) '([^']+)' in vhost '([^']+)': received (.+?) but current is (.+)/

function explain(error: unknown): unknown {
  const found = error instanceof Error ? MISMATCH.exec(error.message) : null
  if (found === null) return error
  const [, argument, kind = 'queue', name, vhost, ours, theirs] = found
  const cure =
    kind === 'queue'
      ? `Let the workers of the version that made it empty it, delete it (rabbitmqctl -p ${vhost} delete_queue ${name}), and start again`
      : `Delete it in the virtual host ${vhost}, and start again`
  return new TopologyError(
    `The ${kind} ${name} on the broker was made with another "${argument}": it has ${theirs}, and we need ${ours}. ` +
      `${cure}; or give Monogram a virtual host of its own.`,
    { cause: error },
  )
}
