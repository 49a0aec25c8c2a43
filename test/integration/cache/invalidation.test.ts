import t from 'tap'
import type { Test } from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { backfill, idsOf, makePhoto, pass, publish, startCachedWebs, upload, type CachedWeb } from './cached-webs.ts'

/** Every write that makes something stale is made in one process, and looked for at once in another that had it kept. */

/** Reads twice, so that the second answer comes from the cache. */
async function warm(web: CachedWeb, path: string, as?: { token: string }) {
  const options = as === undefined ? {} : { as }
  await web.send('GET', path, options)
  await web.cache.idle()
  return web.send('GET', path, options)
}

async function everywhere(t: Test, webs: readonly CachedWeb[], check: (web: CachedWeb, name: string) => Promise<void>) {
  for (const [index, web] of webs.entries()) await check(web, index === 0 ? 'here' : 'there')
  t.pass('in every process')
}

t.test('a caption', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const author = await here.person('author')
  const id = await publish(here.context, author, 'before')
  const path = `/v1/photos/${id}`
  for (const web of [here, there]) t.equal((await warm(web, path)).body.caption, 'before')
  await here.send('PATCH', path, { as: author, body: { caption: 'after' } })
  for (const web of [there, here]) t.equal((await web.send('GET', path)).body.caption, 'after')
  const list = await there.send('GET', `/v1/accounts/${author.id}/photos`)
  t.equal(list.body.items?.[0]?.caption, 'after')
})

t.test('a photo is published: for others, in its author’s list and in the count', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const author = await here.person('author')
  const id = await upload(here.context, author)
  for (const web of [here, there]) {
    t.equal((await warm(web, `/v1/photos/${id}`)).status, 404)
    t.equal((await warm(web, `/v1/photos/${id}`, author)).body.status, 'processing')
    t.same(idsOf(await warm(web, `/v1/accounts/${author.id}/photos`)), [])
    t.equal((await warm(web, `/v1/accounts/${author.id}`)).body.photoCount, 0)
  }
  await pass(here.context, author, id)
  for (const web of [there, here]) {
    t.equal((await web.send('GET', `/v1/photos/${id}`)).body.status, 'published')
    t.same(idsOf(await web.send('GET', `/v1/accounts/${author.id}/photos`)), [id.toString()])
    t.equal((await web.send('GET', `/v1/accounts/${author.id}`)).body.photoCount, 1)
  }
})

t.test('a photo is deleted: nowhere, at once', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const [author, reader] = [await here.person('author'), await here.person('reader')]
  await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  const [gone, kept] = [await publish(here.context, author), await publish(here.context, author)]
  for (const web of [here, there]) {
    t.equal((await warm(web, `/v1/photos/${gone}`)).status, 200)
    t.same(idsOf(await warm(web, '/v1/feed', reader)), [kept, gone].map(String))
    t.equal(idsOf(await warm(web, `/v1/accounts/${author.id}/photos`)).length, 2)
    t.equal((await warm(web, `/v1/accounts/${author.id}`)).body.photoCount, 2)
  }
  t.equal((await here.send('DELETE', `/v1/photos/${gone}`, { as: author })).status, 204)
  await everywhere(t, [there, here], async (web, name) => {
    t.equal((await web.send('GET', `/v1/photos/${gone}`)).status, 404, name)
    t.equal((await web.send('GET', `/v1/photos/${gone}`, { as: author })).status, 404, name)
    t.same(idsOf(await web.send('GET', '/v1/feed', { as: reader })), [kept.toString()], name)
    t.same(idsOf(await web.send('GET', `/v1/accounts/${author.id}/photos`)), [kept.toString()], name)
    t.equal((await web.send('GET', `/v1/accounts/${author.id}`)).body.photoCount, 1, name)
  })
})

t.test('a photo’s id is asked for before it is made', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const author = await here.person('author')
  const id = await here.context.ids.mint(shardOf(BigInt(author.id) as Id))
  for (const web of [here, there]) t.equal((await warm(web, `/v1/photos/${id}`, author)).status, 404)
  await makePhoto(here.context, author, id)
  for (const web of [there, here]) {
    t.equal((await web.send('GET', `/v1/photos/${id}`, { as: author })).body.status, 'processing')
  }
})

t.test('a profile: itself, and beside each of its photos', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const [author, reader] = [await here.person('author'), await here.person('reader')]
  await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  const id = await publish(here.context, author)
  const names = async (web: CachedWeb): Promise<unknown[]> => [
    (await web.send('GET', '/v1/accounts/author')).body.displayName,
    (await web.send('GET', `/v1/photos/${id}`)).body.account?.displayName,
    (await web.send('GET', '/v1/feed', { as: reader })).body.items?.[0]?.account?.displayName,
    (await web.send('GET', `/v1/accounts/${author.id}/photos`)).body.items?.[0]?.account?.displayName,
  ]
  for (const web of [here, there]) t.same(await names(web), Array(4).fill('author'))
  await here.cache.idle()
  await here.send('PATCH', '/v1/me', { as: author, body: { displayName: 'Another' } })
  for (const web of [there, here]) t.same(await names(web), Array(4).fill('Another'))
})

t.test('a follow shows at once, an unfollow hides at once; counts and relationships follow', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const [author, reader] = [await here.person('author'), await here.person('reader')]
  const id = await publish(here.context, author)
  const state = async (web: CachedWeb): Promise<unknown> => {
    const profile = (await web.send('GET', `/v1/accounts/${author.id}`, { as: reader })).body
    return {
      feed: idsOf(await web.send('GET', '/v1/feed', { as: reader })),
      followers: profile.followerCount,
      following: (await web.send('GET', '/v1/accounts/reader')).body.followingCount,
      isFollowed: profile.relationship?.following,
    }
  }
  const without = { feed: [], followers: 0, following: 0, isFollowed: false }
  const with_ = { feed: [id.toString()], followers: 1, following: 1, isFollowed: true }
  for (const web of [here, there, here]) t.same(await state(web), without)
  for (const round of [1, 2]) {
    await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
    for (const web of [there, here, there]) t.same(await state(web), with_, `follow ${round}`)
    await backfill(here.context, reader, author)
    for (const web of [there, here, there]) t.same(await state(web), with_, `backfill ${round}`)
    await here.send('DELETE', `/v1/accounts/${author.id}/follow`, { as: reader })
    for (const web of [there, here, there]) t.same(await state(web), without, `unfollow ${round}`)
  }
})

t.test('a session: revoked everywhere at once, signed out, or dropped as the oldest of too many', async (t) => {
  const { here, there } = await startCachedWebs(t)
  const person = await here.person('person')
  const signIn = async (): Promise<string> => {
    const body = { username: 'person', password: 'correct horse battery' }
    return String((await here.send('POST', '/v1/sessions', { body })).body.token)
  }
  const status = async (token: string): Promise<number[]> =>
    Promise.all([here, there].map(async (web) => (await web.send('GET', '/v1/sessions', { as: { token } })).status))
  const other = await signIn()
  t.same(await status(other), [200, 200])
  t.same(await status(other), [200, 200], 'from the cache')
  const sessions = await here.send('GET', '/v1/sessions', { as: { token: other } })
  const own = sessions.body.items?.find((session) => String(session.current) === 'true')
  t.equal((await here.send('DELETE', `/v1/sessions/${String(own?.id)}`, { as: person })).status, 204)
  t.same(await status(other), [401, 401])
  t.same(await status(person.token), [200, 200])
  await there.send('DELETE', '/v1/sessions/current', { as: person })
  t.same(await status(person.token), [401, 401])
})

t.test('names and ids that nobody had, until somebody signs up', async (t) => {
  const { here, there } = await startCachedWebs(t)
  for (const web of [here, there]) t.equal((await warm(web, '/v1/accounts/newcomer')).status, 404)
  const person = await here.person('newcomer')
  for (const web of [there, here]) {
    t.equal((await web.send('GET', '/v1/accounts/newcomer')).body.id, person.id)
    t.equal((await web.send('GET', `/v1/accounts/${person.id}`)).body.username, 'newcomer')
    t.same((await web.send('GET', '/v1/feed', { as: person })).body.items, [])
  }
})
