import { sql } from 'kysely'
import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import { readSummaries } from '#domain/accounts/accounts.cache.ts'
import { readFeed } from '#domain/feed/feed.reader.ts'
import { readPhotoFragments, readPlacesOf } from '#domain/photos/photos.cache.ts'
import { withTrace } from '#platform/logger/trace.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { eventually } from '../../support/eventually.ts'
import { delivery, openFeedWorld, photoBody, type FeedWorld, type NodeCount } from './feed-world.ts'

const FOLLOWERS_PER_NODE = 3
const PAGE_ROWS = 5_000

/** How many statements `work` sends to PostgreSQL, all nodes together. */
async function statementsOf(work: () => Promise<unknown>): Promise<number> {
  const cost = { statements: 0 }
  await withTrace({ requestId: null, jobId: null, cost }, work)
  return cost.statements
}

/** Does `work` while a table is locked on every node, until its statements wait there on all of them at the same time. */
async function meetEverywhere({ dbs }: FeedWorld, table: 'photos' | 'follows', work: () => Promise<unknown>): Promise<void> {
  const released = Promise.withResolvers<undefined>()
  const locks = dbs.map((db) => {
    const taken = Promise.withResolvers<undefined>()
    const held = db.transaction().execute(async (trx) => {
      await sql`lock table ${sql.table(table)}`.execute(trx)
      taken.resolve(undefined)
      await released.promise
    })
    return { taken: taken.promise, held }
  })
  await Promise.all(locks.map(({ taken }) => taken))
  const working = work()
  // Told below; until then a failure must not count as unhandled.
  working.catch(() => undefined)
  try {
    await eventually(`every node is asked for ${table} at once`, async () => {
      const waiting = await Promise.all(dbs.map((db) => sql`
        select from pg_locks join pg_database on oid = database
        where datname = current_database() and relation = ${table}::regclass and not granted`.execute(db)))
      return waiting.every(({ rows }) => rows.length > 0) ? true : undefined
    })
  } finally {
    released.resolve(undefined)
    await Promise.all([working, ...locks.map(({ held }) => held)])
  }
}

/** The shard's begin, door, update and commit. */
const WRITE = 4

for (const nodes of [1, 2, 4] as const satisfies readonly NodeCount[]) {
  t.test(`statements of a fan-out, a feed and photo lists on ${nodes} node(s): one per node for each question`, async (t) => {
    const world = await openFeedWorld(t, { nodes })
    const authors: Id[] = []
    for (let node = 0; node < nodes; node++) authors.push(await world.person({ node }))
    const readers: Id[] = []
    for (let index = 0; index < FOLLOWERS_PER_NODE * nodes; index++) readers.push(await world.person({ node: index % nodes }))
    for (const reader of readers) {
      for (const author of authors) await world.follow(reader, author)
    }
    const [author, reader] = [authors[0], readers[0]]
    if (author === undefined || reader === undefined) throw new Error('nobody')
    const { photoId } = await world.publish(author)
    const fanOut = await statementsOf(() => fanOutPhoto(world, PAGE_ROWS).handle(photoBody(photoId), delivery()))
    // The photo, the map's version, the author's mode; on each node a cursor, one page, the followers, the cursor's end.
    t.equal(fanOut, 3 + 4 * nodes + WRITE)

    const published = [photoId]
    for (const other of authors) {
      const { photoId: theirs } = await world.publish(other)
      published.push(theirs)
      await fanOutPhoto(world, PAGE_ROWS).handle(photoBody(theirs), delivery())
    }
    const read = (): Promise<number> => statementsOf(() => readFeed(world, reader, { before: null, limit: 100 }))
    await read()
    // Whom one follows, entries; on each node what entries cannot have, what is below them, photos, authors.
    t.equal(await read(), 2 + 4 * nodes)
    for (const db of world.dbs) await db.updateTable('follows').set({ backfilled_at: new Date() }).execute()
    t.equal(await read(), 2 + 3 * nodes, 'all backfilled: nobody is asked above the floor')
    const page = await statementsOf(() => readFeed(world, reader, { before: null, limit: 1 }))
    t.equal(page, 2 + 2 * Math.min(nodes, 2), 'two stored entries: photos and authors only where they are')

    const list = await statementsOf(async () => {
      const [, { places }] = await Promise.all([readSummaries(world, [author]), readPlacesOf(world, author, { before: null, limit: 31 })])
      t.equal(places.length, 2)
      await readPhotoFragments(world, places.map((place) => place.photoId))
    })
    t.equal(list, 3, 'an account’s photos: the account, their places, the photos, all on its node')
    const many = await statementsOf(() => readPhotoFragments(world, published))
    t.equal(many, nodes, 'photos of many accounts')

    await meetEverywhere(world, 'photos', () => readFeed(world, reader, { before: null, limit: 100 }))
    await meetEverywhere(world, 'photos', () => readPhotoFragments(world, published))
    const { photoId: next } = await world.publish(author)
    await meetEverywhere(world, 'follows', () => fanOutPhoto(world, PAGE_ROWS).handle(photoBody(next), delivery()))
    t.pass('what goes to several nodes goes to all of them at once')
  })
}
