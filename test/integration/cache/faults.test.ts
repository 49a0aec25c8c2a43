import { sql } from 'kysely'
import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import { setRole } from '#domain/accounts/accounts.queries.ts'
import type { Cache } from '#platform/memcached/cache.ts'
import { sweepInvalidations } from '#platform/memcached/invalidations.ts'
import { idsOf, pass, publish, startCachedWebs, upload, type CachedWebs } from './cached-webs.ts'

async function rowsLeft({ plain }: CachedWebs): Promise<number> {
  const { rows } = await sql`select from cache_invalidations`.execute(plain.context.router.directory.primary)
  return rows.length
}

t.test('memcached dies in the middle: every answer stays right, and what it missed is made up for', async (t) => {
  const webs = await startCachedWebs(t)
  const { here, there, memcached } = webs
  const [author, reader] = [await here.person('author'), await here.person('reader')]
  await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  const photos = [await publish(here.context, author, 'one'), await publish(here.context, author, 'two')].reverse().map(String)
  const feed = async (): Promise<unknown[]> =>
    Promise.all([here, there].map(async (web) => idsOf(await web.send('GET', '/v1/feed', { as: reader }))))
  t.same(await feed(), [photos, photos])
  t.same(await feed(), [photos, photos], 'kept')
  await here.context.invalidations.idle()
  t.equal(await rowsLeft(webs), 0, 'what was confirmed leaves no row')

  await memcached.kill()
  t.same(await feed(), [photos, photos], 'read without it')
  await here.send('PATCH', `/v1/photos/${photos[0]}`, { as: author, body: { caption: 'three' } })
  await here.send('DELETE', `/v1/photos/${photos[1]}`, { as: author })
  for (const web of [here, there]) {
    t.equal((await web.send('GET', `/v1/photos/${photos[0]}`)).body.caption, 'three')
    t.equal((await web.send('GET', `/v1/photos/${photos[1]}`)).status, 404)
  }
  t.same(await feed(), [[photos[0]], [photos[0]]])
  await here.send('DELETE', `/v1/accounts/${author.id}/follow`, { as: reader })
  t.same(await feed(), [[], []])
  t.equal(await rowsLeft(webs), 3, 'each write left its row')

  await memcached.restart()
  const db = webs.plain.context.router.directory.primary
  await sql`update cache_invalidations set recorded_at = now() - interval '1 minute'`.execute(db)
  // A node that failed is left alone until a probe of ours has found it again.
  while ((await sweepInvalidations(db, here.cache)).swept === 0) await new Promise((resolve) => setImmediate(resolve))
  t.equal(await rowsLeft(webs), 0, 'the sweeper deletes rows once their keys are confirmed')
  t.same(await feed(), [[], []])
})

t.test('a process that dies between commit and delete leaves what is stale to the sweeper', async (t) => {
  let isDead = false
  const dying = (cache: Cache): Cache => ({ ...cache, delete: (keys) => (isDead ? Promise.resolve([...keys]) : cache.delete(keys)) })
  const webs = await startCachedWebs(t, { wrap: dying })
  const { here, there } = webs
  const author = await here.person('author')
  const path = `/v1/photos/${await publish(here.context, author, 'before')}`
  await there.send('GET', path)
  await Promise.all([there.cache.idle(), here.context.invalidations.idle()])
  isDead = true
  await here.send('PATCH', path, { as: author, body: { caption: 'after' } })
  t.equal((await there.send('GET', path)).body.caption, 'before', 'nobody deleted it')
  const db = webs.plain.context.router.directory.primary
  await sql`update cache_invalidations set recorded_at = now() - interval '1 minute'`.execute(db)
  t.match(await sweepInvalidations(db, there.cache), { found: 1, swept: 1 })
  t.equal((await there.send('GET', path)).body.caption, 'after')
})

t.test('a moderator’s decision that is told again is told to the cache, as its first try may have died before', async (t) => {
  let isDead = false
  const deleted: string[] = []
  const dying = (cache: Cache): Cache => ({
    ...cache,
    delete(keys) {
      if (isDead) return Promise.resolve([...keys])
      deleted.push(...keys)
      return cache.delete(keys)
    },
  })
  const { here, there } = await startCachedWebs(t, { wrap: dying })
  const moderator = await here.person('moderator')
  await setRole(here.context.router, BigInt(moderator.id) as Id, 'moderator')
  for (const [how, headers] of [['with its key', { 'idempotency-key': 'once' }], ['without one', {}]] as const) {
    const author = await here.person(how.replace(/ .*/, ''))
    const id = await upload(here.context, author)
    await pass(here.context, author, id, 'review')
    const look = async (): Promise<unknown[]> => [
      idsOf(await there.send('GET', `/v1/accounts/${author.id}/photos`)),
      (await there.send('GET', `/v1/accounts/${author.id}`)).body.photoCount,
    ]
    const [hidden, shown] = [[[], 0], [[id.toString()], 1]]
    t.same(await look(), hidden)
    await Promise.all([there.cache.idle(), here.context.invalidations.idle()])
    const decide = async (): Promise<number> => {
      const options = { as: moderator, body: { verdict: 'clean' }, headers }
      return (await here.send('POST', `/v1/moderation/photos/${id}/decision`, options)).status
    }
    isDead = true
    t.equal(await decide(), 200)
    t.same(await look(), hidden, 'nobody told the cache')
    isDead = false
    deleted.length = 0
    t.equal(await decide(), 200)
    t.same(await look(), shown, how)
    t.ok(deleted.includes(`photo:${id}`), how)
    t.ok(deleted.includes(`marker:${moderator.id}`), `${how}: the moderator’s reads go where the decision is known`)
  }
})

t.test('a caption that was fetched before its change is not stored after it', async (t) => {
  let isHeld = false
  const fetched = Promise.withResolvers<undefined>()
  const go = Promise.withResolvers<undefined>()
  const slow = (cache: Cache): Cache => ({
    ...cache,
    readMany: (keys, fill, options) =>
      cache.readMany(
        keys,
        async (missing) => {
          const values = await fill(missing)
          if (isHeld && missing.some((key) => key.startsWith('photo:'))) {
            fetched.resolve(undefined)
            await go.promise
          }
          return values
        },
        options,
      ),
  })
  const { here, there } = await startCachedWebs(t, { wrap: slow })
  const author = await here.person('author')
  const path = `/v1/photos/${await publish(here.context, author, 'before')}`
  isHeld = true
  const reading = here.send('GET', path)
  await fetched.promise
  await there.send('PATCH', path, { as: author, body: { caption: 'after' } })
  isHeld = false
  go.resolve(undefined)
  t.equal((await reading).body.caption, 'before', 'it came before the change')
  await here.cache.idle()
  for (const web of [here, there, here]) t.equal((await web.send('GET', path)).body.caption, 'after')
})

t.test('wrong passwords count in all processes together, and in each alone while memcached is away', async (t) => {
  const { here, there, memcached } = await startCachedWebs(t)
  await here.person('person')
  const tries = async (count: number, password: string): Promise<number[]> => {
    const statuses: number[] = []
    for (let index = 0; index < count; index++) {
      const web = index % 2 === 0 ? here : there
      const answer = await web.send('POST', '/v1/sessions', { body: { username: 'person', password } })
      statuses.push(answer.status)
    }
    return statuses
  }
  t.same(await tries(12, 'correct horse battery'), Array(12).fill(201), 'a right one takes nothing')
  t.same(await tries(14, 'wrong horse battery'), [...Array<number>(10).fill(401), ...Array<number>(4).fill(429)])
  await memcached.kill()
  t.same(await tries(12, 'wrong horse battery'), [...Array<number>(10).fill(401), 429, 429], 'five tries each were left')
})
