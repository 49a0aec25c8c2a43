import { sql } from 'kysely'
import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import { setRole } from '#domain/accounts/accounts.queries.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { uploadForm } from '../../support/api-client.ts'
import { pass, upload } from '../cache/cached-webs.ts'
import { startWeb, type Answer, type Json, type Person, type SendOptions, type TestWeb } from './web-app.ts'

/** A request that comes with a key: where to, and with what. */
type Keyed = readonly [url: string, options?: SendOptions]

/** One POST of the API, and what a key is to do for it. */
interface KeyedPost {
  readonly status: number
  readonly request: () => Keyed
  /** Others that must not come with the same key. */
  readonly others: readonly (() => Keyed)[]
  /** Understood and refused: that answer is kept. */
  readonly refused: () => Keyed
  readonly refusal: { readonly status: number; readonly body: { readonly code: string } }
  /** Refused for what is not kept, so that the key may be used again. */
  readonly bad: () => Keyed
  readonly badStatus: number
  /** Makes all its keys those of requests that are still running. */
  readonly run: ReturnType<typeof sql>
  /** All rows that the request has an effect on. */
  readonly effect: ReturnType<typeof sql<object>>
  /** What of an answer is the same each time; all of it when not said. */
  readonly essence?: (body: Json) => unknown
}

const running = (table: string): ReturnType<typeof sql> => sql`update ${sql.table(table)} set status = null, locked_until = now() + interval '5 s'`
/** These take no key. */
const WITHOUT_KEY = ['/v1/sessions']

t.test('every POST is done once for each Idempotency-Key', async (t) => {
  const web = await startWeb(t)
  const db = web.context.router.directory.primary
  await ensurePartitions(db, Date.now())
  const [ann, mia] = [await web.person('ann'), await web.person('mia')]
  await setRole(web.context.router, BigInt(mia.id) as Id, 'moderator')
  const held = await Promise.all(Array.from({ length: 4 }, () => hold(web, ann)))
  const [toClaim, toDecide, toReject, other] = held
  const done = await hold(web, ann)
  await web.send('POST', `/v1/moderation/photos/${done}/decision`, { as: mia, body: { verdict: 'reject' } })

  const [picture, otherPicture] = [await makePicture({ seed: 1, width: 64, height: 48 }), await makePicture({ seed: 2, width: 64, height: 48 })]
  const photo = async (form: FormData): Promise<SendOptions> => {
    const encoded = new Response(form)
    return { as: mia, body: Buffer.from(await encoded.arrayBuffer()), headers: { 'content-type': encoded.headers.get('content-type') ?? '' } }
  }
  const forms = {
    first: await photo(uploadForm(picture, 'x')),
    caption: await photo(uploadForm(picture, 'y')),
    picture: await photo(uploadForm(otherPicture, 'x')),
    tags: await photo(uploadForm(picture, Array.from({ length: 31 }, (_, tag) => `#t${tag}`).join(' '))),
    text: await photo(uploadForm(Buffer.from('text'))),
  }
  const signUp = (change: object = {}): Keyed => ['/v1/accounts', { body: { username: 'once', password: 'a long password', ...change } }]
  const decision = (id: string | undefined, body: object): Keyed => [`/v1/moderation/photos/${id}/decision`, { as: mia, body }]
  const claim = (id: string | undefined, options: SendOptions = {}): Keyed => [`/v1/moderation/photos/${id}/claim`, { as: mia, ...options }]

  const posts: Record<string, KeyedPost> = {
    '/v1/accounts': {
      status: 201,
      request: signUp,
      others: [() => signUp({ username: 'twice' }), () => signUp({ password: 'another password' }), () => signUp({ displayName: 'Once' })],
      refused: () => signUp({ username: 'ann' }),
      refusal: { status: 409, body: { code: 'username_taken' } },
      bad: () => signUp({ password: 'short' }),
      badStatus: 400,
      run: running('anonymous_idempotency_keys'),
      effect: sql`select a.id, a.username, c.password_hash from accounts a join credentials c on c.account_id = a.id`,
      essence: ({ account }) => account,
    },
    '/v1/photos': {
      status: 202,
      request: () => ['/v1/photos', forms.first],
      others: [() => ['/v1/photos', forms.caption], () => ['/v1/photos', forms.picture], () => claim(other)],
      refused: () => ['/v1/photos', forms.tags],
      refusal: { status: 422, body: { code: 'too_many_tags' } },
      bad: () => ['/v1/photos', forms.text],
      badStatus: 415,
      run: running('idempotency_keys'),
      effect: sql`select p.id, p.caption, o.message_id from photos p left join outbox o on o.body ->> 'photoId' = p.id::text`,
    },
    '/v1/moderation/photos/{id}/claim': {
      status: 200,
      request: () => claim(toClaim),
      others: [() => claim(other), () => claim(toClaim, { body: {} }), () => decision(toClaim, { verdict: 'reject' })],
      refused: () => claim(done),
      refusal: { status: 409, body: { code: 'photo_not_held' } },
      bad: () => claim('1'),
      badStatus: 404,
      run: running('idempotency_keys'),
      effect: sql`select id, status, claimed_by, claimed_until from photos`,
    },
    '/v1/moderation/photos/{id}/decision': {
      status: 200,
      request: () => decision(toDecide, { verdict: 'clean', note: 'fine' }),
      others: [() => decision(toDecide, { verdict: 'reject', note: 'fine' }), () => decision(toDecide, { verdict: 'clean' }), () => decision(toReject, { verdict: 'clean', note: 'fine' })],
      refused: () => decision(done, { verdict: 'clean' }),
      refusal: { status: 409, body: { code: 'photo_not_held' } },
      bad: () => decision(toDecide, { verdict: 'perhaps' }),
      badStatus: 400,
      run: running('idempotency_keys'),
      effect: sql`select p.id, p.status, p.published_id, p.decided_at, p.decision_note, o.message_id
        from photos p left join outbox o on o.body ->> 'photoId' = p.id::text`,
    },
  }

  await t.test('these are all, and they say so', async (t) => {
    const { body } = await web.send('GET', '/openapi.json')
    const paths = body.paths as unknown as Record<string, { post?: { parameters?: { in: string; name: string; required: boolean }[] } }>
    const found = Object.entries(paths).filter(([, { post }]) => post !== undefined)
    t.same(found.map(([path]) => path).toSorted(), [...Object.keys(posts), ...WITHOUT_KEY].toSorted())
    for (const [path, { post }] of found) {
      const takesKey = post?.parameters?.some((parameter) => parameter.in === 'header' && parameter.name === 'idempotency-key' && !parameter.required)
      t.equal(takesKey ?? false, !WITHOUT_KEY.includes(path), path)
    }
  })

  for (const [path, post] of Object.entries(posts)) {
    await t.test(`POST ${path}`, async (t) => {
      const essence = post.essence ?? ((body: Json) => body)
      const send = async ([url, options = {}]: Keyed, key: string): Promise<Answer> =>
        web.send('POST', url, { ...options, headers: { ...options.headers, 'idempotency-key': key } })
      const effect = async (): Promise<string[]> =>
        (await post.effect.execute(db)).rows.map((row) => JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))).toSorted()
      const before = await effect()

      for (const key of ['', 'a b', 'ä', 'x'.repeat(256)]) {
        t.match(await send(post.request(), key), { status: 400, body: { errors: [{ path: '/headers/idempotency-key' }] } }, `the key ${key}`)
      }
      for (const attempt of [1, 2]) t.equal((await send(post.bad(), path)).status, post.badStatus, `what is bad is no answer to keep, ${attempt}`)
      t.same(await effect(), before)

      const first = await send(post.request(), path)
      t.equal(first.status, post.status, first.text)
      const after = await effect()
      t.strictNotSame(after, before)
      const again = await send(post.request(), path)
      t.strictSame([again.status, essence(again.body), again.headers.location], [first.status, essence(first.body), first.headers.location], 'the same answer')
      for (const request of post.others) {
        t.match(await send(request(), path), { status: 422, body: { code: 'idempotency_mismatch' } })
      }
      t.strictSame(essence((await send(post.request(), path)).body), essence(first.body), 'the first answer stands')

      for (const attempt of [1, 2]) t.match(await send(post.refused(), `${path}-refused`), post.refusal, `refused, ${attempt}`)
      t.match(await send(post.request(), `${path}-refused`), { status: 422, body: { code: 'idempotency_mismatch' } }, 'what was refused is kept')

      await post.run.execute(db)
      t.match(await send(post.request(), path), { status: 409, headers: { 'retry-after': /^[1-9]$/ }, body: { code: 'idempotency_in_progress' } })
      t.strictSame(await effect(), after, 'and all of it had one effect')
    })
  }

  await t.test('POST /v1/sessions signs in each time', async (t) => {
    const signIn = (username: string): Promise<Answer> =>
      web.send('POST', '/v1/sessions', { body: { username, password: username === 'once' ? 'a long password' : 'correct horse battery' }, headers: { 'idempotency-key': 'session' } })
    const answers = [await signIn('once'), await signIn('once'), await signIn('ann')]
    t.same(answers.map(({ status }) => status), [201, 201, 201])
    t.equal(new Set(answers.map(({ body }) => body.token)).size, 3)
  })
})

/** A photo that the safety worker held. */
async function hold({ context }: TestWeb, owner: Person): Promise<string> {
  const id = await upload(context, owner)
  await pass(context, owner, id, 'review')
  return id.toString()
}
