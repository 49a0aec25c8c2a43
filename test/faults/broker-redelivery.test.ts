import { readdir } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { sql } from 'kysely'
import type { Connection } from 'rabbitmq-client'
import t from 'tap'
import { DELAY_STEPS_MS } from '#kernel/backoff.ts'
import type { Db } from '#domain/database.ts'
import { QUEUES } from '#domain/queues.ts'
import { workQueue } from '#platform/rabbitmq/topology.ts'
import { openRaw } from '../integration/rabbitmq/raw.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import type { ProcessType } from '../support/processes.ts'
import { startBrokerWorld } from './broker-world.ts'
import { liveThrough, readLife } from './small-life.ts'

/** Row 5 of the faults: the same is done twice, by two casts of people, and what the second makes is delivered three times. */
const WORKERS = ['thumbnail-worker', 'safety-worker', 'fanout-worker'] as const satisfies readonly ProcessType[]
/** An original and its renditions. */
const BLOBS_OF_PHOTO = 5

t.test('every message delivered three times, shuffled, all at once, leaves what one delivery leaves', async (t) => {
  const { db, api, monogram, vhost } = await startBrokerWorld(t)
  const once = await liveThrough(api, db, 'once')
  await deliverThrice(db)
  const thrice = await liveThrough(api, db, 'thrice')
  t.same(await tripled(db), [
    'feed.rebuild to fanout.bulk',
    'follow.created to fanout.bulk',
    'photo.deleted to fanout.bulk',
    'photo.published to fanout',
    'photo.uploaded to safety',
    'photo.uploaded to thumbnail',
  ], 'every kind of message')

  // Copies that change nothing are still on their way: they have been worked on when no queue has any and all workers have left.
  const raw = openRaw(t, vhost.url)
  await eventually('the end of the outbox and of all queues', async () =>
    (await countWaiting(db, raw)) === 0 ? true : undefined)
  await Promise.all(WORKERS.flatMap((type) => monogram.processes[type].map((worker) => worker.kill('SIGTERM'))))
  t.equal(await countWaiting(db, raw), 0, 'no worker gave anything back')

  const state = await readLife(api, db, thrice)
  t.same(state, await readLife(api, db, once), 'both casts see the same')
  t.same(state.early.feed, ['fourth', 'from elsewhere', 'second', 'third'])
  t.match(state.author.counts, { photoCount: 3, followerCount: 4, followingCount: 0 })
  const photos = [once, thrice].flatMap((life) => [...life.photos.keys()])
  await assertInvariants(t, monogram, db, { photos })
  const owned = await db.selectFrom('photos').select(['original_key', 'renditions']).execute()
  const keys = owned.flatMap(({ original_key: original, renditions }) => [original, ...(renditions ?? []).map(({ key }) => key)])
  t.equal(keys.length, photos.length * BLOBS_OF_PHOTO)
  t.same(await filesIn(monogram.blobDirectory), keys.toSorted(), 'the photo store has the blobs of those photos and no other')
  t.same(await db.selectFrom('fanout_cursors').selectAll().execute(), [], 'no fan-out is left half done')
})

/** From now on each row of the outbox comes with two copies, same message, that are due at random moments of the next second. */
async function deliverThrice(db: Db): Promise<void> {
  await sql`create table tripled (event text, queue text, primary key (event, queue))`.execute(db)
  await sql`create function triple() returns trigger language plpgsql as $$
    begin
      insert into outbox (message_id, queue, event, body, request_id, available_at)
      select new.message_id, new.queue, new.event, new.body, new.request_id, now() + random() * interval '1 second'
      from generate_series(1, 2);
      insert into tripled values (new.event, new.queue) on conflict do nothing;
      return new;
    end $$`.execute(db)
  await sql`create trigger triple before insert on outbox for each row
    when (pg_trigger_depth() = 0) execute function triple()`.execute(db)
}

async function tripled(db: Db): Promise<string[]> {
  const { rows } = await sql<{ text: string }>`select event || ' to ' || queue as text from tripled order by 1`.execute(db)
  return rows.map(({ text }) => text)
}

/** Messages that nobody has in hand, in the outbox and on the broker. */
async function countWaiting(db: Db, raw: Connection): Promise<number> {
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from outbox`.execute(db)
  const queues = [...Object.values(QUEUES).map(workQueue), ...DELAY_STEPS_MS.map((ms) => `monogram.wait.${ms}ms`)]
  const depths = await Promise.all(queues.map(async (queue) => (await raw.queueDeclare({ queue, passive: true })).messageCount))
  return depths.reduce((sum, depth) => sum + depth, rows[0]?.n ?? 0)
}

async function filesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries.flatMap((entry) => (entry.isFile() ? [relative(directory, join(entry.parentPath, entry.name))] : [])).toSorted()
}
