import { sql, type RawBuilder, type Selectable } from 'kysely'
import type { Test } from 'tap'
import type { Db } from '#domain/database.ts'
import type { PhotosTable } from '#domain/photos/photos.table.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import { eventually } from './eventually.ts'
import type { Monogram } from './monogram.ts'
import type { NodeDatabase } from './open-database.ts'

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
 * What must hold after every fault, once the backlog is drained: each acknowledged photo is there once, on one node, and at
 * the end of its way with its pictures; each published one is in every follower's feed exactly once, and nothing that is not
 * published; every row is where the shard map leads; the outboxes are empty, and the dead letters are those expected, each once.
 * What shards have left on a node, or are bringing there, is none of its rows.
 *
 * @param where the one database, or all nodes, the directory first
 */
export async function assertInvariants(t: Test, monogram: Monogram, where: Db | readonly NodeDatabase[], expected: Expectation): Promise<void> {
  const nodes = isOne(where) ? [{ name: 'DATABASE_URL', db: where }] : where
  await workEnded(nodes)
  const { deadLetters = [], failed = [] } = expected
  // A photo has failed with the first of its jobs; the letters of others may still be on their way.
  await eventually('the dead letters', async () => ((await sumOf(nodes, sql`dead_letters`)) >= deadLetters.length ? true : undefined), DRAIN_MS)
  const letters = await ofAll(nodes, async ({ db }) => (await sql<ExpectedLetter>`select queue, event, cause, body from dead_letters`.execute(db)).rows)
  t.same(letters.map(textOf).toSorted(), deadLetters.map(textOf).toSorted(), 'dead letters')

  const photos = await ofAll(nodes, ({ db }) => db.selectFrom('photos').selectAll().where(atHome('id')).execute())
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
  await assertFeeds(t, nodes, photos)
  await assertMapped(t, nodes)
}

/** Waits until nothing on any node is still to be worked on. */
export async function workEnded(nodes: readonly NodeDatabase[]): Promise<void> {
  await eventually('the end of all work', async () => ((await sumOf(nodes, UNFINISHED)) === 0 ? true : undefined), DRAIN_MS)
}

/** With a broker, messages have left the outbox before they are worked on: so what they are about is looked at too. */
const UNFINISHED = sql`(select id from outbox
  union all select id from photos where (status in ('processing', 'deleted') or (status = 'published' and fanned_out_at is null)) and ${atHome('id')}
  union all select id from follows where backfilled_at is null and ${atHome('follower_id')}
  union all select id from accounts where rebuild_asked_at is not null and not dormant and ${atHome('id')}) as unfinished`

/** A reader's entries are on its node, wherever the authors are. */
async function assertFeeds(t: Test, nodes: readonly NodeDatabase[], photos: readonly Selectable<PhotosTable>[]): Promise<void> {
  const published = photos.filter(({ status }) => status === 'published')
  const rowsOf = (list: typeof published): RawBuilder<unknown> => sql`unnest(
    ${list.map(({ id }) => id)}::bigint[], ${list.map(({ account_id: author }) => author)}::bigint[],
    ${list.map(({ published_id: place }) => place)}::bigint[]) as p (id, author, place)`
  const missing = await sumOf(nodes, sql`follows f join ${rowsOf(published.filter(({ pull }) => !pull))} on p.author = f.followee_id
    where f.active and ${atHome('f.follower_id')} and not exists (select from feed_entries e
      where e.account_id = f.follower_id and e.published_id = p.place and e.photo_id = p.id)`)
  t.equal(missing, 0, 'every follower has every photo')
  const ghosts = await sumOf(nodes, sql`feed_entries e where ${atHome('e.account_id')}
    and not exists (select from ${rowsOf(published)} where p.id = e.photo_id and p.place = e.published_id)`)
  t.equal(ghosts, 0, 'and nothing that is not published')
  const doubled = await sumOf(nodes, sql`(select from feed_entries where ${atHome('account_id')} group by account_id, photo_id having count(*) > 1) d`)
  t.equal(doubled, 0, 'exactly once')
}

async function assertMapped(t: Test, nodes: readonly NodeDatabase[]): Promise<void> {
  const [directory] = nodes
  if (directory === undefined || nodes.length === 1) return
  const map = await sql<{ shard: number; node: string }>`select shard::int, node from shard_map`.execute(directory.db)
  const nodeOf = new Map(map.rows.map(({ shard, node }) => [shard, node]))
  const astray = await ofAll(nodes, async ({ name, db }) => {
    const { rows } = await sql<{ shard: number }>`select distinct shard::int from (
        select (id >> 10) & 8191 as shard from accounts union select (id >> 10) & 8191 from photos
        union select (follower_id >> 10) & 8191 from follows union select (account_id >> 10) & 8191 from feed_entries
        union select (account_id >> 10) & 8191 from sessions union select shard from usernames
      ) as s where shard <> all (array(select shard from shard_state where state <> 'gone'))`.execute(db)
    return rows.flatMap(({ shard }) => (nodeOf.get(shard) === name ? [] : [`shard ${shard} on ${name}`]))
  })
  t.same(astray, [], 'no row is where the map does not lead')
}

function textOf({ queue, event, cause, body }: ExpectedLetter): string {
  return `${queue} ${event} ${cause} ${JSON.stringify(body)}`
}

async function isStored({ blobs }: Monogram, key: string): Promise<boolean> {
  const blob = await blobs.get(key)
  blob?.stream.destroy()
  return blob !== undefined
}

function isOne(where: Db | readonly NodeDatabase[]): where is Db {
  return !Array.isArray(where)
}

async function ofAll<T>(nodes: readonly NodeDatabase[], look: (node: NodeDatabase) => Promise<T[]>): Promise<T[]> {
  return (await Promise.all(nodes.map(look))).flat()
}

/** How many rows that is on all nodes. */
async function sumOf(nodes: readonly NodeDatabase[], from: RawBuilder<unknown>): Promise<number> {
  const counts = await ofAll(nodes, async ({ db }) => (await sql<{ n: number }>`select count(*)::int as n from ${from}`.execute(db)).rows)
  return counts.reduce((sum, { n }) => sum + n, 0)
}
