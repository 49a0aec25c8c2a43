import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { recordDecision, recordRenditions, recordVerdict } from '#domain/photos/photos.gate.ts'
import { addDelta } from '#domain/counters/counters.queries.ts'
import { endPullMode, reviewPullMode } from '#domain/feed/pull-mode.ts'
import { PULLED_LIST_MAX_AGE_MS } from '#domain/feed/pulled-authors.ts'
import { listPulledAuthors, openPulledAuthor } from '#domain/feed/pulled-authors.queries.ts'
import { createPhoto } from '#domain/photos/photos.queries.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { purgePhoto } from '../../../services/fanout-worker/purge-photo.ts'
import { tendPulledAuthors } from '../../../services/fanout-worker/tend-pulled-authors.ts'
import { DAY_MS, delivery, followBody, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'

const DELAY_MS = 60_000
const FAN_OUT = { promoteAt: 4, demoteAt: 3, pullDelayMs: DELAY_MS }
const FACTS = { width: 1, height: 1, blurhash: '', takenAt: null, renditions: [] }

/** The world, with limits that a few followers reach. */
async function openWorld(t: Parameters<typeof openFeedWorld>[0], nodes: 1 | 2 = 1): Promise<FeedWorld> {
  const world = await openFeedWorld(t, { nodes })
  return { ...world, config: { ...world.config, fanOut: FAN_OUT } }
}

/** Follows and counts it, as the API does; the backfill is done. */
async function follow(world: FeedWorld, readerId: Id, authorId: Id): Promise<void> {
  await world.follow(readerId, authorId)
  await world.router.write(shardOf(readerId), (trx) => addDelta(trx, authorId, 'followers', 1))
  await backfillFeed(world).handle(followBody(readerId, authorId), delivery())
}

async function unfollow(world: FeedWorld, readerId: Id, authorId: Id): Promise<void> {
  await world.unfollow(readerId, authorId)
  await world.router.write(shardOf(readerId), (trx) => addDelta(trx, authorId, 'followers', -1))
}

/** Through the gate, which decides how the photo is brought; and then its message. */
async function publish(world: FeedWorld, authorId: Id, verdict: 'clean' | 'review' = 'clean'): Promise<{ photoId: Id; isPulled: boolean }> {
  const shard = shardOf(authorId)
  const photoId = world.mint(shard)
  const publishedId = world.mint(shard)
  await world.router.write(shard, async (trx) => {
    const upload = { id: photoId, accountId: authorId, caption: { text: '', tags: [] }, originalKey: 'none', originalBytes: 1, mediaType: 'image/jpeg' }
    await createPhoto(trx, upload)
    await recordRenditions(trx, photoId, FACTS, publishedId)
    await recordVerdict(trx, photoId, { verdict, detail: {} }, publishedId)
  })
  await fanOutPhoto(world, 2).handle(photoBody(photoId), delivery())
  const { pull } = await world.router.read(shard, (db) =>
    db.selectFrom('photos').select('pull').where('id', '=', photoId).executeTakeFirstOrThrow(),
  )
  return { photoId, isPulled: pull }
}

for (const nodes of [1, 2] as const) {
  t.test(`up and down over both limits no photo is doubled or lost, on ${nodes} node(s)`, async (t) => {
    const world = await openWorld(t, nodes)
    const [author, other] = [await world.person(), await world.person({ node: nodes - 1 })]
    const readers: Id[] = []
    for (let index = 0; index < FAN_OUT.promoteAt; index++) readers.push(await world.person({ node: index % nodes }))
    const photos: Id[] = []
    const modes: boolean[] = []
    const post = async (): Promise<void> => {
      const { photoId, isPulled } = await publish(world, author)
      photos.unshift(photoId)
      modes.push(isPulled)
      photos.unshift((await publish(world, other)).photoId)
    }
    const [first, second, ...rest] = readers
    if (first === undefined || second === undefined) throw new Error('too few')
    for (const reader of readers) await follow(world, reader, author)
    for (const reader of readers) await follow(world, reader, other)
    await world.scroll(first)

    await post() // Crosses the limit: the photo is fanned out, and the author promoted.
    await post()
    world.clock.advance(DELAY_MS)
    await post()
    await unfollow(world, second, author) // Between the limits: the mode stays.
    await post()
    await post()
    t.same(modes, [false, false, true, true, true])
    for (const reader of [first, ...rest]) {
      for (const limit of [1, 3, 100]) t.same(await world.scroll(reader, limit), photos, `pages of ${limit}`)
    }
    t.equal((await world.stored(first)).length, photos.length - 6, 'the pulled ones, of both, are not stored')
    t.equal((await world.scroll(second)).length, photos.length / 2, 'who unfollowed sees none of them')

    await unfollow(world, rest[0] ?? first, author)
    await post() // Still pulled; and the author is demoted.
    await post()
    t.same(modes.slice(5), [true, false])
    for (const reader of [first, ...rest.slice(1)]) t.same(await world.scroll(reader, 3), photos)

    // A follow brings everything, however it was published: before its backfill and after.
    for (const reader of [second, rest[0] ?? first]) await follow(world, reader, author)
    for (const reader of readers) t.same(await world.scroll(reader, 3), photos)
    await post()
    world.clock.advance(DELAY_MS)
    await post()
    t.same(modes.slice(7), [false, true], 'promoted again')
    for (const reader of readers) t.same(await world.scroll(reader, 3), photos)
    t.same((await listPulledAuthors(world.router)).map(({ last }) => last), [null, null])
  })
}

t.test('a pulled photo that is deleted is gone, and one that is held for review comes when it is released', async (t) => {
  const world = await openWorld(t)
  const author = await world.person()
  const readers: Id[] = []
  for (let index = 0; index < FAN_OUT.promoteAt; index++) {
    const reader = await world.person()
    await follow(world, reader, author)
    readers.push(reader)
  }
  const [reader = author] = readers
  const { photoId: early } = await publish(world, author)
  world.clock.advance(DELAY_MS)
  const held = await publish(world, author, 'review')
  t.notOk(held.isPulled)
  const { photoId: late } = await publish(world, author)
  t.same(await world.scroll(reader), [late, early])
  const { photoId: gone } = await publish(world, author)
  await world.remove(author, gone)
  t.same(await world.scroll(reader), [late, early])
  await purgePhoto(world).handle(photoBody(gone), delivery())
  t.same(await world.scroll(reader), [late, early])
  const release = { moderatorId: reader, verdict: 'clean', note: '' } as const
  await world.router.write(shardOf(author), (trx) => recordDecision(trx, held.photoId, release, world.mint(shardOf(author))))
  await fanOutPhoto(world).handle(photoBody(held.photoId), delivery())
  t.same(await world.scroll(reader), [held.photoId, late, early], 'new, not buried')
  t.same(await world.stored(reader), [early])
})

t.test('every reader has heard of an author before the first photo that it must pull', async (t) => {
  const world = await openWorld(t)
  const [author, reader] = [await world.person(), await world.person()]
  await follow(world, reader, author)
  await world.router.write(shardOf(reader), (trx) => addDelta(trx, author, 'followers', FAN_OUT.promoteAt))
  const photos: Id[] = []
  // This reader's list was read just before the promotion, and is used for as long as it may be.
  t.same(await world.scroll(reader), photos)
  await reviewPullMode(world, author)
  for (let passedMs = 0; passedMs < 2 * DELAY_MS; passedMs += PULLED_LIST_MAX_AGE_MS - 500) {
    photos.unshift((await publish(world, author)).photoId)
    t.same(await world.scroll(reader, 7), photos, `${passedMs} ms later`)
    world.clock.advance(PULLED_LIST_MAX_AGE_MS - 500)
  }
  const pulled = photos.length - (await world.stored(reader)).length
  t.ok(pulled > 5 && pulled < photos.length, `${pulled} of ${photos.length} were pulled`)
})

t.test('crashes between the steps of a promotion and of a demotion are made good', async (t) => {
  const world = await openWorld(t)
  const author = await world.person()
  const age = (): Promise<unknown> => sql`update pulled_authors set opened_at = ${new Date(world.clock.nowMs() - DAY_MS)}`.execute(world.router.directory.primary)
  const rows = async (): Promise<unknown[]> => (await listPulledAuthors(world.router)).map(({ last }) => last !== null)
  const pullFrom = async (): Promise<Id | null> =>
    (await world.router.read(shardOf(author), (db) => db.selectFrom('accounts').select('pull_from').where('id', '=', author).executeTakeFirstOrThrow())).pull_from

  await openPulledAuthor(world.router, author, world.mint(0), 0)
  await tendPulledAuthors(world)
  t.same(await rows(), [false], 'a promotion under way is left alone')
  await age()
  await tendPulledAuthors(world)
  t.same(await rows(), [true], 'one that died is closed')

  // One that stood still between its steps, while its row was closed, does not get into the mode.
  await world.router.write(shardOf(author), (trx) => addDelta(trx, author, 'followers', FAN_OUT.promoteAt))
  const slow = Object.create(world.router, {
    write: {
      value: async (...args: Parameters<FeedWorld['router']['write']>) => {
        await age()
        await tendPulledAuthors(world)
        return world.router.write(...args)
      },
    },
  }) as FeedWorld['router']
  await reviewPullMode({ ...world, router: slow }, author)
  t.equal(await pullFrom(), null)
  t.same(await rows(), [true])

  await reviewPullMode(world, author)
  t.ok(await pullFrom(), 'the next one does')
  await age()
  await tendPulledAuthors(world)
  t.same(await rows(), [false], 'and keeps its row')

  // A demotion that dies between its steps.
  await world.router.write(shardOf(author), (trx) =>
    trx.updateTable('accounts').set({ pull_from: null, pull_epoch: 9 }).where('id', '=', author).execute(),
  )
  await tendPulledAuthors(world)
  t.same(await rows(), [true])
  await reviewPullMode(world, author)
  await endPullMode(world, author)
  t.same(await rows(), [true])
  world.clock.advance(93 * DAY_MS)
  await tendPulledAuthors(world)
  t.same(await rows(), [], 'forgotten when no stored feed can lack its photos any more')
})
