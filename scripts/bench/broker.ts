import { mkdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Queue, Worker } from 'bullmq'
import { sql, type Kysely } from 'kysely'
import { Connection } from 'rabbitmq-client'
import { Type } from 'typebox'
import { outbox } from '#migrations/0003-outbox.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { noJobMetrics, type JobMetrics } from '#platform/outbox/job-metrics.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { openBroker, type Broker } from '#platform/rabbitmq/broker.ts'
import { toEnvelope, type WireMessage } from '#platform/rabbitmq/message-form.ts'
import { rabbitTransport } from '#platform/rabbitmq/rabbit-transport.ts'
import { topologyOf, WORK_EXCHANGE, workQueue } from '#platform/rabbitmq/topology.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { LOOPBACK } from '../stack/free-port.ts'
import { removeRabbitmq, startRabbitmq } from '../stack/rabbitmq.ts'
import { buildLibrabbitmq } from './librabbitmq.ts'
import { startRedis } from './redis.ts'
import { compareRounds, printRates, ratioBetween, timeRate } from './rounds.ts'

/**
 * 10,000 persistent messages of 300 bytes to a quorum queue, confirmed; and 10,000 jobs that do nothing the whole way:
 * put into the outbox in batches, relayed, handled, acknowledged, beside BullMQ on Debian's Redis (append-only file,
 * forced every second: the durability its users have, which is less than ours). The publishing ceiling is librabbitmq
 * in C with 1,000 under way, where it can be compiled, and the library that we use alone with as many.
 */
const MESSAGES = 10_000
/** For the way that takes a round trip per message. */
const MESSAGES_SLOW = 1_000
const BODY_BYTES = 300
const CEILING_WINDOW = 1_000
const PUT_ROWS = 1_000
const PREFETCH = 500
const CONCURRENCY = 100
const POOL_CONNECTIONS = 10
const DEADLINE_MS = 30_000
const QUEUE = 'bench'
const NODE = 'bench'

const CEILING = 'librabbitmq, window of 1,000 (ceiling)'
const LIBRARY = 'rabbitmq-client alone, window of 1,000'
const PUBLISHER = 'our publisher'
const RELAY = 'from the outbox: claimed, confirmed, deleted'
const NAIVE = 'awaiting each confirm (naive)'
const OURS = 'outbox → RabbitMQ → handler → ack'
const PEER = 'BullMQ'

const log = createLogger({ process: 'bench', level: 'warn' })
const noop = defineEvent('bench.noop', Type.Object({ n: Type.Integer(), filler: Type.String() }), [QUEUE])
const filler = 'x'.repeat(BODY_BYTES - '{"n":1000,"filler":""}'.length)
const body = Buffer.from(JSON.stringify({ n: 1_000, filler }))

/** The message that every way of publishing sends, under an id of its own. */
function wireMessage(): WireMessage {
  return {
    exchange: WORK_EXCHANGE,
    queue: QUEUE,
    messageId: crypto.randomUUID(),
    event: noop.name,
    body,
    requestId: null,
    enqueuedAt: new Date(),
    node: NODE,
    attempts: 0,
    failure: null,
  }
}

/** Publishes with at most `window` under way, confirmed. */
async function publishRaw(connection: Connection, count: number, window: number): Promise<void> {
  const channel = await connection.acquire()
  await channel.confirmSelect()
  let left = count
  const lane = async (): Promise<void> => {
    while (left-- > 0) await channel.basicPublish(toEnvelope(wireMessage()), body)
  }
  await Promise.all(Array.from({ length: window }, lane))
  await channel.close()
}

async function publishOurs({ publisher }: Broker): Promise<void> {
  const ends = await Promise.all(Array.from({ length: MESSAGES }, () => publisher.publish(wireMessage())))
  if (ends.some((end) => end !== 'confirmed')) throw new Error('not every message was confirmed')
}

async function putOutbox(db: Kysely<unknown>): Promise<void> {
  for (let from = 0; from < MESSAGES; from += PUT_ROWS) {
    await publishEvents(db, Array.from({ length: PUT_ROWS }, (_, index) => message(noop, { n: from + index, filler })))
  }
}

/** Only the relay is timed: the rows are there when it starts. */
async function relay(broker: Broker, db: Kysely<unknown>): Promise<number> {
  await putOutbox(db)
  return timeRate(MESSAGES, async () => {
    const transport = rabbitTransport({ broker, nodes: [{ name: NODE, primary: db }], log })
    for (let left = true; left; ) {
      const { rows } = await sql<{ left: boolean }>`select exists (select from outbox) as left`.execute(db)
      left = rows[0]?.left === true
      if (left) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await transport.close()
  })
}

async function wholeJobs(broker: Broker, db: Kysely<unknown>): Promise<void> {
  const handled = Promise.withResolvers<undefined>()
  let left = MESSAGES
  const metrics: JobMetrics = {
    ...noJobMetrics,
    ended(_queue, _end, count) {
      left -= count
      if (left === 0) handled.resolve(undefined)
    },
  }
  const transport = rabbitTransport({ broker, nodes: [{ name: NODE, primary: db }], log, metrics })
  transport.consume({
    queue: QUEUE,
    handlers: [{ event: noop, handle: () => Promise.resolve() }],
    concurrency: CONCURRENCY,
    batch: PREFETCH,
    deadlineMs: DEADLINE_MS,
  })
  for (let from = 0; from < MESSAGES; from += PUT_ROWS) {
    const messages = Array.from({ length: PUT_ROWS }, (_, index) => message(noop, { n: from + index, filler }))
    // As a write of the domain does.
    const committed = await db.transaction().execute(async (trx) => {
      const told = transport.attend(trx, NODE)
      await publishEvents(trx, messages)
      return told
    })
    committed()
  }
  await handled.promise
  // So that every acknowledgement is sent and every row is deleted within the time.
  await transport.close()
}

async function bullmq(port: number): Promise<void> {
  const connection = { host: LOOPBACK, port, maxRetriesPerRequest: null }
  const queue = new Queue('bench', { connection, defaultJobOptions: { removeOnComplete: true, attempts: 8 } })
  const handled = Promise.withResolvers<undefined>()
  let left = MESSAGES
  const worker = new Worker('bench', () => Promise.resolve(), { connection, concurrency: CONCURRENCY })
  worker.on('completed', () => {
    if (--left === 0) handled.resolve(undefined)
  })
  for (let from = 0; from < MESSAGES; from += PUT_ROWS) {
    await queue.addBulk(Array.from({ length: PUT_ROWS }, (_, index) => ({ name: 'noop', data: { n: from + index, filler } })))
  }
  await handled.promise
  await worker.close()
  await queue.close()
}

const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-broker')
await using stack = new AsyncDisposableStack()
await mkdir(directory, { recursive: true })
stack.defer(() => rm(directory, { recursive: true, force: true }))
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: ['jobs'], durable: true })
stack.defer(() => removeEmbeddedPostgres(checkout, directory))
const server = await startRabbitmq({ directory: join(directory, 'rabbitmq') })
stack.defer(() => removeRabbitmq(join(directory, 'rabbitmq')))
stack.defer(() => server.stop())
const redis = await startRedis(directory)
stack.defer(() => redis.stop())

const db = openPool<unknown>({ url: postgres.url('jobs'), max: POOL_CONNECTIONS, applicationName: 'bench' }, log)
stack.defer(() => db.destroy())
await migrateNode(db, [outbox])
const broker = await openBroker({ url: server.url(), topology: topologyOf([QUEUE]), name: 'bench', log })
stack.defer(() => broker.close())
const raw = new Connection(server.url())
raw.on('error', (error) => log.error({ err: error }, 'the connection of the ceiling'))
stack.defer(() => raw.close())

/** Leaves the queue empty for the next case; the time does not count. */
async function emptied(rate: Promise<number>): Promise<number> {
  const found = await rate
  await raw.queuePurge(workQueue(QUEUE))
  return found
}

const inC = await buildLibrabbitmq(directory)
const cOptions = { url: server.url(), exchange: WORK_EXCHANGE, key: QUEUE, bytes: BODY_BYTES, count: MESSAGES, window: CEILING_WINDOW }
const publishing = await compareRounds({
  ...(inC && { [CEILING]: () => emptied(inC(cOptions)) }),
  [LIBRARY]: () => emptied(timeRate(MESSAGES, () => publishRaw(raw, MESSAGES, CEILING_WINDOW))),
  [PUBLISHER]: () => emptied(timeRate(MESSAGES, () => publishOurs(broker))),
  [RELAY]: () => emptied(relay(broker, db)),
  [NAIVE]: () => emptied(timeRate(MESSAGES_SLOW, () => publishRaw(raw, MESSAGES_SLOW, 1))),
})
printRates('confirmed publishes/s', publishing)
if (inC) console.log(`our publisher to the ceiling: ${ratioBetween(publishing, PUBLISHER, CEILING).toFixed(2)} (aim 0.85)`)
console.log(`our publisher to the library alone: ${ratioBetween(publishing, PUBLISHER, LIBRARY).toFixed(2)}`)
console.log(`our publisher to awaiting each: ${ratioBetween(publishing, PUBLISHER, NAIVE).toFixed(1)} (aim 10)\n`)

const jobs = await compareRounds({
  [OURS]: () => timeRate(MESSAGES, () => wholeJobs(broker, db)),
  [PEER]: () => timeRate(MESSAGES, () => bullmq(redis.port)),
})
printRates('jobs/s, put to done', jobs)
console.log(`ours to BullMQ: ${ratioBetween(jobs, OURS, PEER).toFixed(2)} (aim 1.5)`)
