import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker'
import { sql, type Kysely } from 'kysely'
import { Type } from 'typebox'
import { outbox } from '#migrations/0003-outbox.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { claimRows, deleteClaims } from '#platform/outbox/claims.ts'
import { defineEvent } from '#platform/outbox/event-contract.ts'
import { noJobMetrics, type JobMetrics } from '#platform/outbox/job-metrics.ts'
import { postgresTransport } from '#platform/outbox/postgres-transport.ts'
import { message, publishEvents } from '#platform/outbox/publish.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { compareRounds, printRates, ratioBetween, timeRate } from './rounds.ts'

/**
 * 10,000 jobs that do nothing, the whole way: put into the table in batches, claimed, handled, deleted.
 * The ceiling is the same rows taken with DELETE … RETURNING: no claim, no handler, no redelivery.
 */
const JOBS = 10_000
/** For the ways that take a round trip or more per job. */
const JOBS_SLOW = 2_000
const PUT_ROWS = 1_000
const CLAIM_ROWS = 1_000
const CONCURRENCY = 100
const POOL_CONNECTIONS = 10
const DEADLINE_MS = 30_000

const OURS = 'outbox, claims of 1,000'
const PEER = 'graphile-worker tuned'

const log = createLogger({ process: 'bench', level: 'warn' })
const silent = new Logger(() => () => undefined)
const noop = defineEvent('bench.noop', Type.Object({ n: Type.Integer() }), ['bench'])

async function putOutbox(db: Kysely<unknown>, jobs: number): Promise<void> {
  for (let from = 0; from < jobs; from += PUT_ROWS) {
    await publishEvents(db, Array.from({ length: PUT_ROWS }, (_, index) => message(noop, { n: from + index })))
  }
}

async function deleteReturning(db: Kysely<unknown>, jobs: number): Promise<void> {
  await putOutbox(db, jobs)
  for (let left = jobs; left > 0; ) {
    const { rows } = await sql`delete from outbox where id = any(array(
      select id from outbox where queue = 'bench' and available_at <= now()
      order by available_at limit ${CLAIM_ROWS} for update skip locked)) returning id, body`.execute(db)
    left -= rows.length
  }
}

async function ours(db: Kysely<unknown>, jobs: number): Promise<void> {
  await putOutbox(db, jobs)
  const deleted = Promise.withResolvers<undefined>()
  let left = jobs
  const metrics: JobMetrics = {
    ...noJobMetrics,
    ended(_queue, _end, count) {
      left -= count
      if (left === 0) deleted.resolve(undefined)
    },
  }
  const transport = postgresTransport({ nodes: [{ name: 'bench', primary: db }], log, metrics })
  transport.consume({
    queue: 'bench',
    handlers: [{ event: noop, handle: () => Promise.resolve() }],
    concurrency: CONCURRENCY,
    batch: CLAIM_ROWS,
    deadlineMs: DEADLINE_MS,
  })
  await deleted.promise
  await transport.close()
}

/** The simple worker: claim one, work, delete it, on each of the pool's connections. */
async function oneByOne(db: Kysely<unknown>, jobs: number): Promise<void> {
  await putOutbox(db, jobs)
  const worker = async (): Promise<void> => {
    for (;;) {
      const token = crypto.randomUUID()
      const claims = await claimRows(db, { queue: 'bench', limit: 1, visibilityMs: DEADLINE_MS, token })
      if (claims.length === 0) return
      await deleteClaims(db, claims)
    }
  }
  await Promise.all(Array.from({ length: POOL_CONNECTIONS }, worker))
}

/** The peer, its worker stopped at the end so that it has deleted every row, as ours has. */
async function graphile(url: string, jobs: number, worker: GraphileConfig.WorkerOptions): Promise<void> {
  const options = { connectionString: url, maxPoolSize: POOL_CONNECTIONS, logger: silent }
  const utils = await makeWorkerUtils(options)
  for (let from = 0; from < jobs; from += PUT_ROWS) {
    await utils.addJobs(Array.from({ length: PUT_ROWS }, (_, index) => ({ identifier: 'noop', payload: { n: from + index } })))
  }
  const handled = Promise.withResolvers<undefined>()
  let left = jobs
  const noopTask = (): void => {
    if (--left === 0) handled.resolve(undefined)
  }
  const preset = { worker: { ...options, ...worker } }
  const runner = await run({ preset, taskList: { noop: noopTask }, noHandleSignals: true })
  await handled.promise
  await runner.stop()
  await utils.release()
}

/** As wide as ours, batching in both directions. */
const TUNED = {
  concurrentJobs: CONCURRENCY,
  localQueue: { size: CLAIM_ROWS },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
}

const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-jobs')
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: ['jobs'], durable: true })
const url = postgres.url('jobs')
const db = openPool<unknown>({ url, max: POOL_CONNECTIONS, applicationName: 'bench' }, log)
try {
  await migrateNode(db, [outbox])
  await runMigrations({ connectionString: url, logger: silent })
  const rates = await compareRounds({
    'DELETE … RETURNING in batches (ceiling)': () => timeRate(JOBS, () => deleteReturning(db, JOBS)),
    [OURS]: () => timeRate(JOBS, () => ours(db, JOBS)),
    'claim one, delete one, 10 connections (naive)': () => timeRate(JOBS_SLOW, () => oneByOne(db, JOBS_SLOW)),
    [PEER]: () => timeRate(JOBS, () => graphile(url, JOBS, TUNED)),
    'graphile-worker default': () => timeRate(JOBS_SLOW, () => graphile(url, JOBS_SLOW, {})),
  })
  printRates('jobs/s, put to deleted', rates)
  console.log(`ours to graphile-worker tuned: ${ratioBetween(rates, OURS, PEER).toFixed(2)} (aim 0.8)`)
} finally {
  await db.destroy()
  await postgres.stop()
  await removeEmbeddedPostgres(checkout, directory)
  await rm(directory, { recursive: true, force: true })
}
