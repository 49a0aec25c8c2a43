import { sql } from 'kysely'
import type { Test } from 'tap'
import type { Db } from '#domain/database.ts'
import { eventually } from './eventually.ts'
import type { Monogram } from './monogram.ts'

/** How long a backlog may take to be worked off after a fault. */
const DRAIN_MS = 60_000

export interface Expectation {
  /** Ids of all photos that a client was told of with a 2xx and has not deleted. */
  photos: readonly string[]
  /** Those among them whose jobs are dead letters: they have failed, until the letters are replayed. */
  failed?: readonly string[]
  /** The dead letters that the fault is meant to leave, in any order; none when not said. */
  deadLetters?: readonly ExpectedLetter[]
}

export interface ExpectedLetter {
  queue: string
  event: string
  cause: string
  /** What its message is about. */
  body: object
}

/**
 * What must hold after every fault, once the backlog is drained: each acknowledged photo is there once and at the end
 * of its way with its pictures; each published one is in every follower's feed exactly once, and nothing that is not published; the
 * outbox is empty, and the dead letters are those expected, each once.
 */
export async function assertInvariants(t: Test, monogram: Monogram, db: Db, expected: Expectation): Promise<void> {
  // With a broker, messages have left the outbox before they are worked on: so what they are about is looked at too.
  const unfinished = sql`(select id from outbox
    union all select id from photos where status = 'processing' or (status = 'published' and fanned_out_at is null)
    union all select id from follows where backfilled_at is null) as unfinished`
  await eventually('the end of all work', async () => ((await count(db, unfinished)) === 0 ? true : undefined), DRAIN_MS)
  const { deadLetters = [], failed = [] } = expected
  // A photo has failed with the first of its jobs; the letters of others may still be on their way.
  await eventually('the dead letters', async () => ((await count(db, sql`dead_letters`)) >= deadLetters.length ? true : undefined), DRAIN_MS)
  const { rows: letters } = await sql<ExpectedLetter>`select queue, event, cause, body from dead_letters`.execute(db)
  t.same(letters.map(textOf).toSorted(), deadLetters.map(textOf).toSorted(), 'dead letters')

  const photos = await db.selectFrom('photos').selectAll().execute()
  t.same(photos.map(({ id }) => id.toString()).toSorted(), [...expected.photos].toSorted(), 'each photo once')
  for (const photo of photos) {
    if (failed.includes(photo.id.toString())) {
      t.equal(photo.status, 'failed')
      continue
    }
    t.equal(photo.status, 'published')
    t.ok(photo.fanned_out_at, 'fanned out')
    const keys = [photo.original_key, ...(photo.renditions ?? []).map(({ key }) => key)]
    t.equal(keys.length, 5)
    for (const key of keys) if (!(await isStored(monogram, key))) t.fail(`${key} is not in the photo store`)
  }

  const missing = await count(db, sql`follows f join photos p on p.account_id = f.followee_id
    where f.active and p.status = 'published' and not p.pull and not exists (select from feed_entries e
      where e.account_id = f.follower_id and e.published_id = p.published_id and e.photo_id = p.id)`)
  t.equal(missing, 0, 'every follower has every photo')
  const ghosts = await count(db, sql`feed_entries e where not exists (select from photos p
    where p.id = e.photo_id and p.published_id = e.published_id and p.status = 'published')`)
  t.equal(ghosts, 0, 'and nothing that is not published')
  const doubled = await count(db, sql`(select from feed_entries group by account_id, photo_id having count(*) > 1) d`)
  t.equal(doubled, 0, 'exactly once')
}

function textOf({ queue, event, cause, body }: ExpectedLetter): string {
  return `${queue} ${event} ${cause} ${JSON.stringify(body)}`
}

async function isStored({ blobs }: Monogram, key: string): Promise<boolean> {
  const blob = await blobs.get(key)
  blob?.stream.destroy()
  return blob !== undefined
}

async function count(db: Db, from: ReturnType<typeof sql>): Promise<number> {
  const { rows } = await sql<{ n: number }>`select count(*)::int as n from ${from}`.execute(db)
  return rows[0]?.n ?? 0
}
