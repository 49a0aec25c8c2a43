import { sql } from 'kysely'
import t from 'tap'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { setRole } from '#domain/accounts/accounts.queries.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { recordRenditions, recordVerdict } from '#domain/photos/photos.gate.ts'
import { bringFact } from '#domain/photos/photos.work.ts'
import { RENDITIONS, upload } from '../cache/cached-webs.ts'
import { startWeb, type Answer, type Person, type TestWeb } from './web-app.ts'

const FACTS = { width: 600, height: 400, blurhash: 'LEHV6nWB2yk8pyo0adR*.7kCMdnj', takenAt: null, renditions: RENDITIONS }
const SCREENING = { nsfw: { verdict: 'review', detail: { porn: 0.8 } } }

/** A photo that the safety worker held. */
async function hold({ context }: TestWeb, owner: Person): Promise<string> {
  const id = await upload(context, owner)
  const photo = { id, account_id: BigInt(owner.id) as Id }
  await bringFact(context, photo, (trx, publishedId) => recordRenditions(trx, id, FACTS, publishedId))
  await bringFact(context, photo, (trx, publishedId) => recordVerdict(trx, id, { verdict: 'review', detail: SCREENING }, publishedId))
  return id.toString()
}

async function moderator(web: TestWeb, username: string): Promise<Person> {
  const person = await web.person(username)
  await setRole(web.context.router, BigInt(person.id) as Id, 'moderator')
  return person
}

const decide = (web: TestWeb, as: Person, id: string, body: object, headers?: Record<string, string>): Promise<Answer> =>
  web.send('POST', `/v1/moderation/photos/${id}/decision`, { as, body, ...(headers && { headers }) })

const claim = (web: TestWeb, as: Person, id: string): Promise<Answer> =>
  web.send('POST', `/v1/moderation/photos/${id}/claim`, { as })

t.test('to everybody but moderators these addresses do not exist', async (t) => {
  const web = await startWeb(t)
  const [ann, mia] = [await web.person('ann'), await moderator(web, 'mia')]
  const id = await hold(web, ann)
  const requests = [
    ['GET', '/v1/moderation/queue', undefined],
    ['POST', `/v1/moderation/photos/${id}/claim`, undefined],
    ['POST', `/v1/moderation/photos/${id}/decision`, { verdict: 'clean', note: '' }],
    ['POST', `/v1/moderation/photos/${id}/decision`, { verdict: 7 }],
  ] as const
  for (const [method, url, body] of requests) {
    t.match(await web.send(method, url, { as: ann, body }), { status: 404, body: { code: 'not_found' } }, `${method} ${url}`)
    t.match(await web.send(method, url, { body }), { status: 401 })
  }
  for (const bad of ['1', 'x', '-1', '9223372036854775808']) {
    t.match(await claim(web, mia, bad), { status: 404 })
    t.match(await decide(web, mia, bad, { verdict: 'clean' }), { status: 404 })
  }
  t.match(await decide(web, mia, id, { verdict: 'review' }), { status: 400 })
  t.match(await web.send('GET', '/v1/moderation/queue?limit=0', { as: mia }), { status: 400 })
})

t.test('the queue: held photos of all nodes, oldest first, page by page', async (t) => {
  const web = await startWeb(t, { twoNodes: true })
  const mia = await moderator(web, 'mia')
  const held: string[] = []
  for (let i = 0; i < 8; i++) held.push(await hold(web, await web.person(`author_${i}`)))
  t.equal(new Set(held.map((id) => web.context.router.nodeOf(shardOf(BigInt(id) as Id)).name)).size, 2)
  held.sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1))
  const found: string[] = []
  let url = '/v1/moderation/queue?limit=3'
  for (let next: string | null = ''; next !== null; url = `/v1/moderation/queue?limit=3&cursor=${next}`) {
    const { body } = await web.send('GET', url, { as: mia })
    found.push(...(body.items ?? []).map((item) => String(item.id)))
    next = body.next ?? null
  }
  t.same(found, held)
  t.match((await web.send('GET', '/v1/moderation/queue?limit=1', { as: mia })).body.items?.[0], {
    status: 'review',
    publishedAt: null,
    renditions: Array(4).fill({ url: String }),
    moderation: { claimedBy: null, claimedUntil: null, screening: SCREENING },
  })
})

t.test('released: published as of now, once, with its count and its fan-out', async (t) => {
  const web = await startWeb(t)
  const [ann, mia] = [await web.person('ann'), await moderator(web, 'mia')]
  const db = web.context.router.directory.primary
  await ensurePartitions(db, Date.now())
  const id = await hold(web, ann)
  t.match(await web.send('GET', `/v1/photos/${id}`), { status: 404 })
  const later = await upload(web.context, ann)

  const key = { 'idempotency-key': 'decision-of-mia' }
  const first = await decide(web, mia, id, { verdict: 'clean', note: 'fine' }, key)
  t.match(first, { status: 200, body: { id, status: 'published', publishedAt: String, moderation: { claimedBy: null } } })
  t.strictSame((await decide(web, mia, id, { verdict: 'clean', note: 'fine' }, key)).body, first.body, 'the same answer')
  t.match(await decide(web, mia, id, { verdict: 'reject', note: '' }, key), { status: 422, body: { code: 'idempotency_mismatch' } })
  t.match(await decide(web, mia, id, { verdict: 'clean', note: 'fine' }), { status: 200 }, 'said again')
  t.match(await decide(web, mia, id, { verdict: 'reject', note: '' }), { status: 409, body: { code: 'photo_not_held' } })

  t.match(await web.send('GET', `/v1/photos/${id}`), { status: 200, body: { status: 'published' } })
  t.match((await web.send('GET', '/v1/accounts/ann')).body, { photoCount: 1 })
  const { rows } = await sql<{ published_id: bigint; decided_by: bigint; decision_note: string }>`
    select published_id, decided_by, decision_note from photos where id = ${BigInt(id)}`.execute(db)
  t.ok((rows[0]?.published_id ?? 0n) > later, 'newer than what was uploaded meanwhile')
  t.same([rows[0]?.decided_by, rows[0]?.decision_note], [BigInt(mia.id), 'fine'])
  const events = await sql`select from outbox where event = 'photo.published'`.execute(db)
  t.equal(events.rows.length, 1, 'fanned out once')
  t.same((await web.send('GET', '/v1/moderation/queue', { as: mia })).body.items, [])
})

t.test('rejected: shown to its owner as such, and to nobody else', async (t) => {
  const web = await startWeb(t)
  const [ann, mia] = [await web.person('ann'), await moderator(web, 'mia')]
  const id = await hold(web, ann)
  t.match(await decide(web, mia, id, { verdict: 'reject', note: 'no' }), { status: 200, body: { status: 'rejected' } })
  t.match(await web.send('GET', `/v1/photos/${id}`, { as: ann }), { status: 200, body: { status: 'rejected' } })
  t.match(await web.send('GET', `/v1/photos/${id}`), { status: 404 })
  t.match((await web.send('GET', '/v1/accounts/ann')).body, { photoCount: 0 })
})

t.test('who has claimed a photo decides, until the claim ends; of two at once one does', async (t) => {
  const web = await startWeb(t)
  const [ann, mia, moe] = [await web.person('ann'), await moderator(web, 'mia'), await moderator(web, 'moe')]
  const id = await hold(web, ann)
  t.match(await claim(web, mia, id), { status: 200, body: { moderation: { claimedBy: { username: 'mia' }, claimedUntil: String } } })
  t.match(await claim(web, mia, id), { status: 200 }, 'once more')
  t.match(await claim(web, moe, id), { status: 409, headers: { 'retry-after': /^\d+$/ }, body: { code: 'photo_claimed' } })
  t.match(await decide(web, moe, id, { verdict: 'reject' }), { status: 409, body: { code: 'photo_claimed' } })
  await sql`update photos set claimed_until = now() where id = ${BigInt(id)}`.execute(web.context.router.directory.primary)
  const both = await Promise.all([decide(web, moe, id, { verdict: 'reject' }), decide(web, mia, id, { verdict: 'clean' })])
  t.same(both.map(({ status }) => status).sort(), [200, 409])
  t.match(await claim(web, mia, id), { status: 409, body: { code: 'photo_not_held' } })
})
