import fc from 'fast-check'
import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { purgePhoto } from '../../../services/fanout-worker/purge-photo.ts'
import { DAY_MS, delivery, followBody, NOW_MS, openFeedWorld, photoBody, type FeedWorld } from './feed-world.ts'

const PEOPLE = 4
const RUNS = 25
const SEED = 20_261_122

const person = fc.nat({ max: PEOPLE - 1 })
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('follow' as const), who: person, whom: person }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unfollow' as const), who: person, whom: person }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('publish' as const), who: person, daysAgo: fc.constantFrom(0, 0, 0, 50, 100) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete' as const), pick: fc.nat() }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('deliver' as const), pick: fc.nat(), again: fc.boolean() }) },
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

interface ModelPhoto {
  readonly photoId: Id
  readonly publishedId: Id
  readonly authorId: Id
}

interface Message {
  readonly deliver: () => Promise<void>
  /** The photo whose way to the feeds it is: until it is delivered, feeds may lack it. */
  readonly brings?: Id
}

/** What the feeds ought to be, in memory, beside the real ones; messages wait until an operation delivers them. */
async function startModel(world: FeedWorld, people: readonly Id[]) {
  const follows = new Set<string>()
  let photos: ModelPhoto[] = []
  let waiting: Message[] = []
  const at = (index: number): Id => people[index] ?? (0n as Id)
  const edge = (who: Id, whom: Id): string => `${who}>${whom}`

  const expected = (viewer: Id): Id[] =>
    photos
      .filter((photo) => follows.has(edge(viewer, photo.authorId)))
      .sort((a, b) => (a.publishedId > b.publishedId ? -1 : 1))
      .map((photo) => photo.photoId)

  async function deliver(index: number, again: boolean): Promise<void> {
    const message = waiting[index % waiting.length]
    if (message === undefined) return
    if (!again) waiting = waiting.filter((other) => other !== message)
    await message.deliver()
  }

  async function run(operation: Operation): Promise<void> {
    switch (operation.kind) {
      case 'follow': {
        const [who, whom] = [at(operation.who), at(operation.whom)]
        if (who === whom || follows.has(edge(who, whom))) return
        await world.follow(who, whom)
        follows.add(edge(who, whom))
        waiting.push({ deliver: () => backfillFeed(world, 2).handle(followBody(who, whom), delivery()) })
        return
      }
      case 'unfollow':
        await world.unfollow(at(operation.who), at(operation.whom))
        follows.delete(edge(at(operation.who), at(operation.whom)))
        return
      case 'publish': {
        const authorId = at(operation.who)
        const photo = await world.publish(authorId, NOW_MS - operation.daysAgo * DAY_MS - photos.length - 1)
        photos.push({ ...photo, authorId })
        const fanOut = fanOutPhoto(world, 2)
        const body = photoBody(photo.photoId)
        waiting.push({ deliver: () => fanOut.handle(body, delivery()), brings: photo.photoId })
        return
      }
      case 'delete': {
        const gone = photos[operation.pick % photos.length]
        if (gone === undefined) return
        await world.remove(gone.authorId, gone.photoId)
        photos = photos.filter((photo) => photo !== gone)
        waiting.push({ deliver: () => purgePhoto(world).handle(photoBody(gone.photoId), delivery()) })
        return
      }
      case 'deliver':
        return deliver(operation.pick, operation.again)
    }
  }

  return {
    run,
    expected,
    onTheWay: () => new Set(waiting.flatMap(({ brings }) => (brings === undefined ? [] : [brings]))),
    async deliverAll() {
      while (waiting.length > 0) await deliver(0, false)
    },
  }
}

for (const nodes of [1, 2] as const) {
  t.test(`feeds are what a model says, on ${nodes} node(s)`, async (t) => {
    const world = await openFeedWorld(t, { nodes })
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { minLength: 5, maxLength: 40 }),
        fc.integer({ min: 1, max: 7 }),
        async (operations, limit) => {
          const people = await Promise.all(
            Array.from({ length: PEOPLE }, (_, index) => world.person({ node: index % nodes })),
          )
          const model = await startModel(world, people)
          for (const [index, operation] of operations.entries()) {
            await model.run(operation)
            const viewer = people[index % PEOPLE]
            if (viewer !== undefined) await compare(world, model, viewer, limit)
          }
          await model.deliverAll()
          for (const viewer of people) await compare(world, model, viewer, limit)
        },
      ),
      { seed: SEED, numRuns: RUNS },
    )
    t.pass(`${RUNS} runs`)
  })
}

/** A feed is the model's exactly, but for photos whose fan-out has not come yet: those may be missing. */
async function compare(
  world: FeedWorld,
  model: Awaited<ReturnType<typeof startModel>>,
  viewer: Id,
  limit: number,
): Promise<void> {
  const feed = await world.scroll(viewer, limit)
  const shown = new Set(feed)
  const onTheWay = model.onTheWay()
  const expected = model.expected(viewer).filter((photoId) => shown.has(photoId) || !onTheWay.has(photoId))
  if (feed.join() !== expected.join()) {
    throw new Error(`the feed of ${viewer} is\n${feed.join('\n')}\nand not\n${expected.join('\n')}`)
  }
}
