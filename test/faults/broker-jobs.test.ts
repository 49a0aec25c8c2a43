import { execFile } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sql, type Transaction } from 'kysely'
import t from 'tap'
import type { Database, Db } from '#domain/database.ts'
import { ATTEMPTS_MAX } from '#platform/outbox/transport.ts'
import { openRaw } from '../integration/rabbitmq/raw.ts'
import { eventually } from '../support/eventually.ts'
import type { ExpectedLetter } from '../support/invariants.ts'
import type { Monogram } from '../support/monogram.ts'
import type { LogLine, TestProcess } from '../support/processes.ts'
import { sumMetric } from '../support/web-metrics.ts'
import { startBrokerWorld } from './broker-world.ts'

/** Rows 4, 6 and 7 of the faults, on one system with a broker. */

const TOKEN = 'the-metrics-token'
/** More than a worker takes at once: were a worker to wait for one, its neighbours would wait with it. */
const POISONED = 5
const NEIGHBOURS = 6
const FAILED = 'a job failed and will be tried again'

const world = await startBrokerWorld(t, { METRICS_TOKEN: TOKEN })
const { monogram, db, vhost, upload, settled } = world
const ids: string[] = []

t.test('a binding is deleted: rows stay in the outbox, a metric says so, and they go when it is back', async (t) => {
  const before = await returned()
  // The library's promise for an unbind never settles, though the broker has done it.
  void openRaw(t, vhost.url).queueUnbind({ exchange: 'monogram.work', queue: 'monogram.thumbnail', routingKey: 'thumbnail' }).catch(() => undefined)
  await eventually('no binding', async () => !/^monogram\.work\t.*\tmonogram\.thumbnail\t/m.test(await vhost.control('list_bindings')) || undefined)
  ids.push(...(await upload(4)).ids)
  await eventually('a return', async () => (await returned()) > before || undefined)
  const stayed = await eventually('rows that wait for their next try', async () => {
    const { rows } = await sql<{ body: { photoId: string } }>`select body from outbox
      where queue = 'thumbnail' and attempts = 0 and claim_token is null and available_at > now()`.execute(db)
    return rows.length > 0 ? rows : undefined
  })
  t.ok(stayed.every(({ body }) => ids.includes(body.photoId)))
  // A return has the binding put in place anew; sooner or later the rows' time comes.
  await sql`update outbox set available_at = now() where claim_token is null`.execute(db)
  await settled(ids)
})

t.test('jobs that cannot be done, and one that never ends: tried so often and so long, alone', async (t) => {
  const { 'thumbnail-worker': renderers, 'safety-worker': screeners, 'fanout-worker': [leaving] } = monogram.processes
  const lock = await db.startTransaction().execute()
  const prepared = await whileStopped([...renderers, ...screeners], async () => {
    const [poisoned, hanging, neighbours] = [await upload(POISONED), await upload(1), await upload(NEIGHBOURS)]
    await holdFanOut(lock, hanging.ids)
    return { poisoned: poisoned.ids, hanging: hanging.ids, neighbours: neighbours.ids, originals: await loseOriginals(monogram, db, poisoned.ids) }
  })
  ids.push(...prepared.poisoned, ...prepared.hanging, ...prepared.neighbours)
  await sql`insert into outbox (message_id, queue, event, body) values (gen_random_uuid(), 'fanout', 'photo.published', '{"photo": "of another version"}')`.execute(db)

  // The worker with the handler that hangs leaves, and leaves its message to the next one.
  await eventually('a fan-out that hangs', () => isHanging(db))
  const left = leaving?.kill('SIGTERM')
  const next = await monogram.start('fanout-worker')

  // Between its tries poison is with the broker: the others come through long before the shortest waits are over.
  await eventually('the neighbours in the feeds', async () => {
    const photos = await db.selectFrom('photos').select('id').where('fanned_out_at', 'is not', null).execute()
    const done = new Set(photos.map(({ id }) => id.toString()))
    return prepared.neighbours.every((id) => done.has(id)) || undefined
  })
  const { rows: early } = await sql`select queue from dead_letters where cause <> 'invalid_body'`.execute(db)
  t.same(early, [], 'poison is still tried')
  // From now on no wait is long, whatever our queues were declared with.
  await vhost.control('set_policy', 'hurry', String.raw`^monogram\.wait\.`, '{"message-ttl":100}', '--apply-to', 'queues')

  // One that meets its deadline: in the worker that stays.
  const late = await whileStopped(renderers, async () => {
    const { ids: [id = ''] } = await upload(1)
    await holdFanOut(lock, [id])
    return id
  })
  ids.push(late)
  t.same(await left, { code: 0, signal: null }, 'it did not wait for its handler')
  t.match(await next.logged(({ msg }) => msg === FAILED), { event: 'photo.published', attempt: 1, err: { code: 'deadline' } })
  await lock.rollback().execute()

  const letters = prepared.poisoned.flatMap((photoId) => ['thumbnail', 'safety'].map((queue) => letterOf(queue, 'photo.uploaded', 'Error', { photoId })))
  const misshapen = letterOf('fanout', 'photo.published', 'invalid_body', { photo: 'of another version' })
  await settled(ids, { failed: prepared.poisoned, deadLetters: [...letters, misshapen] })
  for (const worker of [...renderers, ...screeners]) {
    for (const tries of triesByJob(worker).values()) {
      t.same(tries.map(({ attempt }) => attempt), Array.from({ length: ATTEMPTS_MAX - 1 }, (_, at) => at + 1))
      t.ok(tries.every(({ attempt, retryInMs }) => retryInMs >= soonestMs(attempt) && retryInMs <= 1_000 * 2 ** (attempt - 1)), 'later and later')
    }
    t.equal(triesByJob(worker).size, POISONED)
  }

  // What was lost is found, what nobody can read is thrown away.
  for (const [path, bytes] of prepared.originals) await writeFile(path, bytes)
  t.equal(await deadLetters(monogram, 'discard', '--cause', 'invalid_body'), 'discarded 1\n')
  t.equal(await deadLetters(monogram, 'replay', '--all'), `replayed ${2 * POISONED}\n`)
  await settled(ids)
})

function returned(): Promise<number> {
  return sumMetric(monogram.urls, TOKEN, 'monogram_broker_publishes_total', { end: 'returned' })
}

/** Does something while processes stand still, so that none of them is quicker. */
async function whileStopped<T>(processes: readonly TestProcess[], work: () => Promise<T>): Promise<T> {
  for (const { pid } of processes) process.kill(pid, 'SIGSTOP')
  try {
    return await work()
  } finally {
    for (const { pid } of processes) process.kill(pid, 'SIGCONT')
  }
}

/** Takes what the fan-out of a photo begins with, as somebody's forgotten transaction might. */
async function holdFanOut(lock: Transaction<Database>, photoIds: readonly string[]): Promise<void> {
  for (const id of photoIds) await sql`insert into fanout_cursors (photo_id, last_follower_id) values (${BigInt(id)}, 0)`.execute(lock)
}

async function isHanging(db: Db): Promise<true | undefined> {
  const { rows } = await sql`select from pg_stat_activity where datname = current_database()
    and application_name = 'monogram fanout-worker' and wait_event_type = 'Lock' and query like '%fanout_cursors%'`.execute(db)
  return rows.length > 0 ? true : undefined
}

/** Takes originals out of the photo store. @returns what was there, by its path */
async function loseOriginals({ blobDirectory }: Monogram, db: Db, photoIds: readonly string[]): Promise<Map<string, Buffer>> {
  const photos = await db.selectFrom('photos').select(['id', 'original_key']).execute()
  const lost = new Map<string, Buffer>()
  for (const { id, original_key: key } of photos) {
    if (!photoIds.includes(id.toString())) continue
    const path = join(blobDirectory, key)
    lost.set(path, await readFile(path))
    await rm(path)
  }
  return lost
}

interface Try {
  attempt: number
  retryInMs: number
}

/** The failed tries that a worker has logged, in order, by job. */
function triesByJob({ log }: TestProcess): Map<unknown, Try[]> {
  return Map.groupBy(log.filter(({ msg }) => msg === FAILED) as (LogLine & Try)[], ({ jobId }) => jobId)
}

/** The shortest wait after so many tries: waits are picked from the last four steps, which double up to 256 s. */
function soonestMs(attempt: number): number {
  return Math.min(Math.max(1_000, 1_000 * 2 ** (attempt - 4)), 32_000)
}

function letterOf(queue: string, event: string, cause: string, body: object): ExpectedLetter {
  return { queue, event, cause, body }
}

/** Runs the command that people run. @returns what it prints */
async function deadLetters({ env }: Monogram, ...words: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['scripts/dead-letters.ts', ...words], { env: { PATH: process.env.PATH, ...env } })
  return stdout
}
