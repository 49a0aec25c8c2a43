import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { sweepReservations } from '#domain/accounts/reservations.ts'
import { reserveName } from '#domain/accounts/reservations.queries.ts'
import type { AppRouter, Database } from '#domain/database.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { startWeb, type Person } from './web-app.ts'

const PEOPLE = 12
const PASSWORD = 'correct horse battery'

t.test('people and names on two nodes are one crowd', async (t) => {
  const web = await startWeb(t, { twoNodes: true })
  const { router } = web.context
  const people: Person[] = []
  for (let i = 0; i < PEOPLE; i++) people.push(await web.person(`person_${i}`))
  const nodes = new Set(people.map((person) => router.nodeOf(shardOf(BigInt(person.id) as Id)).name))
  t.equal(nodes.size, 2, 'by chance of one in two thousand on one')

  const [star, ...fans] = people
  if (star === undefined) throw new Error('nobody signed up')
  for (const fan of fans) {
    await web.send('PUT', `/v1/accounts/${star.id}/follow`, { as: fan })
    await web.send('PUT', `/v1/accounts/${fan.id}/follow`, { as: star })
  }
  const newest = fans.map((fan) => fan.username).reverse()
  for (const list of ['followers', 'following']) {
    const found: string[] = []
    let url = `/v1/accounts/${star.id}/${list}?limit=4`
    for (let page = 0; page < 3; page++) {
      const { body } = await web.send('GET', url, { as: star })
      found.push(...(body.items ?? []).map((item) => String(item.username)))
      t.ok(body.items?.every((item) => item.relationship?.following && item.relationship.followedBy), 'both ways')
      url = `/v1/accounts/${star.id}/${list}?limit=4&cursor=${body.next ?? ''}`
    }
    t.strictSame(found, newest, list)
  }
  const counts = { followerCount: fans.length, followingCount: fans.length }
  t.match((await web.send('GET', '/v1/accounts/person_0')).body, counts)

  for (const { username } of people) {
    const answer = await web.send('POST', '/v1/sessions', { body: { username, password: PASSWORD } })
    t.equal(answer.status, 201, username)
  }
  t.match((await web.send('GET', '/readyz')).body, {
    status: 'ready',
    components: [{ name: 'DATABASE_URL', status: 'up' }, { name: 'SECOND_URL', status: 'up' }],
  })
})

t.test('a node that is away is said to be, and keeps nobody from the others', async (t) => {
  const web = await startWeb(t, { twoNodes: true })
  const primary = openPool<Database>({ url: 'postgres://nobody@127.0.0.1:1/none', max: 1, applicationName: 'test' }, web.context.log)
  t.teardown(() => primary.destroy())
  const [directory] = web.context.router.nodes
  const nodes = { value: [directory, { name: 'SECOND_URL', primary }] }
  const limping = await startWeb(t, { overrides: { router: Object.create(web.context.router, { nodes }) as AppRouter } })
  t.match(await limping.send('GET', '/readyz'), {
    status: 200,
    body: { status: 'ready', components: [{ name: 'DATABASE_URL', status: 'up' }, { name: 'SECOND_URL', status: 'down' }] },
  })
})

t.test('the sweep works through every node', async (t) => {
  const web = await startWeb(t, { twoNodes: true })
  for (let i = 0; i < 10; i++) {
    const accountId = await web.context.ids.mint(i)
    await reserveName(web.context.router, { kind: 'username', name: `ghost_${i}`, accountId })
  }
  t.strictSame(await sweepReservations(web.context, 0), { claimed: 0, freed: 10 })
})
