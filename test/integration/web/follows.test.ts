import t from 'tap'
import { sql } from 'kysely'
import { FOLLOWEES_MAX } from '#domain/follows/follows.rules.ts'
import { startWeb, type Json, type Person, type TestWeb } from './web-app.ts'

t.test('following and unfollowing, twice each', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await web.person('ann'), await web.person('ben')]
  const follow = `/v1/accounts/${ben.id}/follow`
  const none = { following: false, requested: false, followedBy: false, blocking: false, muting: false }

  for (let i = 0; i < 2; i++) {
    const answer = await web.send('PUT', follow, { as: ann })
    t.equal(answer.status, 200)
    t.strictSame(answer.body, { ...none, following: true })
    t.match((await web.send('GET', '/v1/me', { as: ann })).body, { followingCount: 1, followerCount: 0 })
    t.match((await web.send('GET', '/v1/accounts/ben', { as: ann })).body, {
      followerCount: 1,
      followingCount: 0,
      relationship: { following: true, followedBy: false },
    })
    t.match((await web.send('GET', '/v1/accounts/ann', { as: ben })).body.relationship, { following: false, followedBy: true })
    t.equal(await countMessages(web), 1, 'one backfill')
  }
  t.match((await web.send('PUT', `/v1/accounts/${ann.id}/follow`, { as: ben })).body, { following: true, followedBy: true })
  for (let i = 0; i < 2; i++) {
    const answer = await web.send('DELETE', follow, { as: ann })
    t.match(answer, { status: 200, body: { following: false, followedBy: true } })
    t.match((await web.send('GET', '/v1/me', { as: ann })).body, { followingCount: 0, followerCount: 1 })
  }
})

t.test('ten follows and ten unfollows at once count as one each', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await web.person('ann'), await web.person('ben')]
  const tenTimes = (method: string): Promise<unknown> =>
    Promise.all(Array.from({ length: 10 }, () => web.send(method, `/v1/accounts/${ben.id}/follow`, { as: ann })))
  await tenTimes('PUT')
  t.match((await web.send('GET', '/v1/accounts/ben')).body, { followerCount: 1 })
  t.equal(await countMessages(web), 1)
  await tenTimes('DELETE')
  t.match((await web.send('GET', '/v1/accounts/ben')).body, { followerCount: 0 })
})

t.test('whom one cannot follow', async (t) => {
  const web = await startWeb(t)
  const [ann, ben] = [await web.person('ann'), await web.person('ben')]
  for (const method of ['PUT', 'DELETE']) {
    t.match(await web.send(method, `/v1/accounts/${ann.id}/follow`, { as: ann }), { status: 422, body: { code: 'self_follow' } })
    for (const id of ['1', 'ben', '0', '-5', '9223372036854775808', '%00']) {
      t.match(await web.send(method, `/v1/accounts/${id}/follow`, { as: ann }), { status: 404, body: { code: 'not_found' } }, id)
    }
    t.match(await web.send(method, `/v1/accounts/${ben.id}/follow`), { status: 401 })
  }
  await sql`update accounts set status = 'deleted' where username = 'ben'`.execute(web.context.router.directory.primary)
  t.match(await web.send('PUT', `/v1/accounts/${ben.id}/follow`, { as: ann }), { status: 404 })
})

t.test('one follows so many and no more', async (t) => {
  const web = await startWeb(t)
  const [ann, ben, eve] = [await web.person('ann'), await web.person('ben'), await web.person('eve')]
  await sql`insert into follows (follower_id, followee_id, id)
    select ${BigInt(ann.id)}, n, n from generate_series(1, ${FOLLOWEES_MAX - 1}) as n`.execute(
    web.context.router.directory.primary,
  )
  const answers = await Promise.all([ben, eve].map(({ id }) => web.send('PUT', `/v1/accounts/${id}/follow`, { as: ann })))
  t.strictSame(answers.map((answer) => answer.status).sort(), [200, 422], 'also at once')
  t.ok(answers.some((answer) => answer.body.code === 'too_many_following'))
  const followed = answers[0]?.status === 200 ? ben : eve
  t.match(await web.send('PUT', `/v1/accounts/${followed.id}/follow`, { as: ann }), { status: 200 }, 'again changes nothing')
})

t.test('both lists: newest first, page by page, and stable while people come', async (t) => {
  const web = await startWeb(t)
  const ann = await web.person('ann')
  const people: Person[] = []
  for (let i = 0; i < 7; i++) people.push(await web.person(`fan_${i}`))
  for (const person of people) {
    await web.send('PUT', `/v1/accounts/${ann.id}/follow`, { as: person })
    await web.send('PUT', `/v1/accounts/${person.id}/follow`, { as: ann })
  }
  const newest = people.map((person) => person.username).reverse()
  for (const list of ['followers', 'following']) {
    const url = `/v1/accounts/${ann.id}/${list}`
    const whole = await web.send('GET', url)
    t.strictSame(names(whole.body), newest)
    t.equal(whole.body.next, null)
    t.equal(whole.headers.link, undefined)
    t.equal(whole.body.items?.[0]?.relationship, null)

    const first = await web.send('GET', `${url}?limit=3`, { as: ann })
    t.strictSame(names(first.body), newest.slice(0, 3))
    t.match(first.body.items?.[0], { followerCount: 1, followingCount: 1, relationship: { following: true, followedBy: true } })
    t.equal(first.headers.link, `<${url}?limit=3&cursor=${first.body.next ?? ''}>; rel="next"`)

    // A newcomer on top does not shift the rest.
    const late = await web.person(`late_${list}`)
    await web.send('PUT', `/v1/accounts/${ann.id}/follow`, { as: late })
    await web.send('PUT', `/v1/accounts/${late.id}/follow`, { as: ann })
    const second = await web.send('GET', /<(.*)>/.exec(String(first.headers.link))?.[1] ?? '')
    t.strictSame(names(second.body), newest.slice(3, 6))
    const third = await web.send('GET', `${url}?limit=3&cursor=${second.body.next ?? ''}`)
    t.strictSame(names(third.body), newest.slice(6))
    t.equal(third.body.next, null)
    await web.send('DELETE', `/v1/accounts/${ann.id}/follow`, { as: late })
    await web.send('DELETE', `/v1/accounts/${late.id}/follow`, { as: ann })
  }

  const { body } = await web.send('GET', `/v1/accounts/${ann.id}/followers?limit=3`)
  await sql`update accounts set status = 'deleted' where username in ('fan_3', 'fan_2')`.execute(
    web.context.router.directory.primary,
  )
  const refilled = await web.send('GET', `/v1/accounts/${ann.id}/followers?limit=3&cursor=${body.next ?? ''}`)
  t.strictSame(names(refilled.body), ['fan_1', 'fan_0'], 'a page is filled past accounts that are gone')
  t.match(await web.send('GET', `/v1/accounts/${ann.id}/following?cursor=${body.next ?? ''}`), { status: 400 },
    'a cursor of another list')
  t.match(await web.send('GET', '/v1/accounts/1/followers'), { status: 404 })
})

function names(body: Json): string[] {
  return body.items?.map((item) => String(item.username)) ?? []
}

async function countMessages(web: TestWeb): Promise<number> {
  const { rows } = await sql`select from outbox where event = 'follow.created' and body->>'followerId' is not null`.execute(
    web.context.router.directory.primary,
  )
  return rows.length
}
