import t from 'tap'
import { backfill, publish, startCachedWebs, type CachedWeb } from './cached-webs.ts'
import type { Person } from '../web/web-app.ts'

/** How many statements a request sent to PostgreSQL: what the web process's own metric says. */
async function statementsOf(web: CachedWeb, path: string, as?: Person): Promise<number> {
  const total = async (): Promise<number> => {
    const metric = await web.context.metrics.getSingleMetric('monogram_http_database_statements_total')?.get()
    return (metric?.values ?? []).reduce((sum, { value }) => sum + value, 0)
  }
  const before = await total()
  const { status } = await web.send('GET', path, as === undefined ? {} : { as })
  if (status !== 200) throw new Error(`${path} gave ${status}`)
  return (await total()) - before
}

t.test('statements of each hot read, without the cache’s help and with it', async (t) => {
  const { here, there, flush } = await startCachedWebs(t)
  const [author, other, reader] = [await here.person('author'), await here.person('other'), await here.person('reader')]
  for (const followed of [author, other]) {
    await here.send('PUT', `/v1/accounts/${followed.id}/follow`, { as: reader })
  }
  let photo: unknown
  for (let index = 0; index < 12; index++) photo = await publish(here.context, index % 3 === 0 ? other : author)
  const cases = [
    { path: '/v1/feed?limit=10', as: reader, cold: 7, warm: 0 },
    { path: `/v1/photos/${String(photo)}`, as: reader, cold: 3, warm: 0 },
    { path: `/v1/photos/${String(photo)}`, as: undefined, cold: 2, warm: 0 },
    { path: `/v1/accounts/${author.id}/photos`, as: undefined, cold: 3, warm: 0 },
    { path: '/v1/accounts/author', as: undefined, cold: 3, warm: 0 },
    // How the two stand to each other is read anew.
    { path: '/v1/accounts/author', as: reader, cold: 5, warm: 1 },
  ]
  for (const { path, as, cold, warm } of cases) {
    const who = `${path} as ${as?.username ?? 'anonymous'}`
    await flush()
    t.ok((await statementsOf(here, path, as)) <= cold, `${who}: at most ${cold}`)
    await here.cache.idle()
    for (const web of [here, there]) t.equal(await statementsOf(web, path, as), warm, `${who}: ${warm} when it is kept`)
  }
  for (const followed of [author, other]) await backfill(here.context, reader, followed)
  await flush()
  t.equal(await statementsOf(here, '/v1/feed?limit=10', reader), 6, 'session, following, entries, what is below them, photos, authors')
})

t.test('what hot reads ask of memcached: each key once, in so many writes', async (t) => {
  const { here } = await startCachedWebs(t)
  const [author, other, reader] = [await here.person('author'), await here.person('other'), await here.person('reader')]
  for (const followed of [author, other]) {
    await here.send('PUT', `/v1/accounts/${followed.id}/follow`, { as: reader })
  }
  let photo: unknown
  for (let index = 0; index < 12; index++) photo = await publish(here.context, index % 3 === 0 ? other : author)
  const cases = [
    // Session, following, skeleton; eleven photos with two authors. Each write ends with a no-op.
    { path: '/v1/feed?limit=10', as: reader, writes: 4, keys: 3 + 11 + 2 },
    { path: `/v1/photos/${String(photo)}`, as: reader, writes: 2, keys: 2 + 1 },
    { path: `/v1/photos/${String(photo)}`, as: undefined, writes: 1, keys: 2 },
  ]
  for (const { path, as, writes, keys } of cases) {
    const options = as === undefined ? {} : { as }
    await here.send('GET', path, options)
    await here.cache.idle()
    const before = { ...here.counts }
    t.equal((await here.send('GET', path, options)).status, 200)
    t.equal(here.counts.multiGets - before.multiGets, writes, `${path}: writes`)
    t.equal(here.counts.commands - before.commands, keys + writes, `${path}: commands`)
  }
})
