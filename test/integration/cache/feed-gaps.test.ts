import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import type { AppRouter } from '#domain/database.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { delivery, followBody, photoBody } from '../feed/feed-world.ts'
import type { Person } from '../web/web-app.ts'
import { idsOf, publish, startCachedWebs, type CachedWeb } from './cached-webs.ts'

/** A backfill that stops before each of its transactions until it is told to go on. */
function steppedBackfill({ context }: CachedWeb, reader: Person, author: Person) {
  let arrived = Promise.withResolvers<undefined>()
  let go = Promise.withResolvers<undefined>()
  const router = Object.create(context.router, {
    write: {
      value: async (...args: Parameters<AppRouter['write']>) => {
        arrived.resolve(undefined)
        await go.promise
        return context.router.write(...args)
      },
    },
  }) as AppRouter
  const body = followBody(BigInt(reader.id) as Id, BigInt(author.id) as Id)
  const ended = backfillFeed({ ...context, router }, 2).handle(body, delivery())
  return {
    arrive: () => Promise.race([ended, arrived.promise]),
    async step() {
      const gate = go
      arrived = Promise.withResolvers()
      go = Promise.withResolvers()
      gate.resolve(undefined)
      await Promise.race([ended, arrived.promise])
    },
    ended,
  }
}

t.test('while a follow is backfilled no older photo is ever missing, whatever is kept of the feed', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const [author, other, reader] = [await here.person('author'), await here.person('other'), await here.person('reader')]
  await here.send('PUT', `/v1/accounts/${other.id}/follow`, { as: reader })
  const photos: string[] = []
  for (let index = 0; index < 5; index++) photos.unshift((await publish(here.context, author)).toString())
  const read = async (limit: number): Promise<string[][]> =>
    Promise.all([here, there].map(async (web) => idsOf(await web.send('GET', `/v1/feed?limit=${limit}`, { as: reader }))))
  t.same(await read(100), [[], []])

  for (const round of [1, 2, 3]) {
    await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
    const job = steppedBackfill(here, reader, author)
    await job.arrive()
    for (let step = 0; step < 5; step++) {
      // Each read keeps a skeleton, which the next step makes out of date.
      t.same(await read(100), [photos, photos], `follow ${round}, before step ${step}`)
      t.same(await read(3), [photos.slice(0, 3), photos.slice(0, 3)], `follow ${round}, page, before step ${step}`)
      await job.step()
    }
    await job.ended
    t.same(await read(100), [photos, photos], `follow ${round}, backfilled`)
    await there.send('DELETE', `/v1/accounts/${author.id}/follow`, { as: reader })
    t.same(await read(100), [[], []], `unfollow ${round}`)
    // Published while nobody follows: the next follow must bring it too.
    photos.unshift((await publish(here.context, author)).toString())
  }
})

t.test('a kept feed shows what is published when it has been forgotten, and leads on without a gap', async (t) => {
  const { here, there, flush } = await startCachedWebs(t)
  const [author, reader] = [await here.person('author'), await here.person('reader')]
  await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  const photos: string[] = []
  for (let index = 0; index < 6; index++) photos.unshift((await publish(here.context, author)).toString())
  const first = await here.send('GET', '/v1/feed?limit=4', { as: reader })
  t.same(idsOf(first), photos.slice(0, 4))
  const fresh = (await publish(there.context, author)).toString()
  const rest = await there.send('GET', `/v1/feed?limit=4&cursor=${String(first.body.next)}`, { as: reader })
  t.same(idsOf(rest), photos.slice(4), 'the next page follows the first')
  await flush()
  t.same(idsOf(await here.send('GET', '/v1/feed?limit=4', { as: reader })), [fresh, ...photos.slice(0, 3)])
  await fanOutPhoto(here.context).handle(photoBody(BigInt(fresh) as Id), delivery())
  t.same(idsOf(await there.send('GET', '/v1/feed', { as: reader })), [fresh, ...photos], 'once')
})
