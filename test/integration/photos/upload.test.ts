import { readdir } from 'node:fs/promises'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { finishKey, releaseKey, startKey } from '#domain/idempotency/idempotency.queries.ts'
import { apiClient, uploadForm, type ApiClient, type Photo, type Problem } from '../../support/api-client.ts'
import { startWeb, type TestWeb } from '../web/web-app.ts'

/** POST /photos and the life of one photo, without workers: what is made, what is refused, what a key keeps. */
const picture = await makePicture({ seed: 1, width: 320, height: 240 })
const other = await makePicture({ seed: 2, width: 320, height: 240 })

async function serve(t: Test): Promise<{ api: ApiClient; web: TestWeb }> {
  const web = await startWeb(t)
  const url = await web.app.listen({ port: 0, host: '127.0.0.1' })
  return { api: apiClient([url]), web }
}

async function originals({ context }: TestWeb): Promise<string[]> {
  const { storage } = context.config
  const files = storage.kind === 'disk' ? await readdir(storage.directory, { recursive: true }) : []
  return files.filter((file) => /original\.\w+$/.test(file))
}

t.test('an upload is a photo that is processing, with its two jobs and nothing more', async (t) => {
  const { api, web } = await serve(t)
  const ada = await api.signUp('ada')
  const answer = await api.call<Photo>('POST', '/v1/photos', {
    token: ada.token,
    form: uploadForm(picture, '  Äpfel #Obst #obst und #Süßes.  '),
  })
  t.match(answer, {
    status: 202,
    body: {
      status: 'processing',
      account: { id: ada.account.id, username: 'ada', displayName: 'ada', avatarUrl: null },
      caption: 'Äpfel #Obst #obst und #Süßes.',
      tags: ['obst', 'süßes'],
      failure: null,
      width: null,
      height: null,
      takenAt: null,
      publishedAt: null,
      blurhash: null,
      renditions: [],
      likeCount: 0,
      commentCount: 0,
      liked: false,
    },
  })
  t.equal(answer.headers.get('location'), `/v1/photos/${answer.body.id}`)
  t.same(await api.ok('GET', `/v1/photos/${answer.body.id}`, { token: ada.token }), answer.body)
  t.equal((await originals(web)).length, 1)
})

t.test('a photo that is not published is its owner’s alone', async (t) => {
  const { api } = await serve(t)
  const [ada, bela] = [await api.signUp('ada'), await api.signUp('bela')]
  const photo = await api.upload(ada, picture)
  for (const token of [bela.token, undefined]) {
    const options = token === undefined ? {} : { token }
    t.match(await api.call('GET', `/v1/photos/${photo.id}`, options), { status: 404, body: { code: 'not_found' } })
  }
  const foreign = { token: bela.token, json: { caption: 'mine' } }
  t.equal((await api.call('PATCH', `/v1/photos/${photo.id}`, foreign)).status, 404)
  t.equal((await api.call('DELETE', `/v1/photos/${photo.id}`, { token: bela.token })).status, 404)
})

t.test('a caption can be changed, within its bounds', async (t) => {
  const { api } = await serve(t)
  const ada = await api.signUp('ada')
  const photo = await api.upload(ada, picture, { caption: 'one #a' })
  const patch = (json: unknown) => api.call<Photo & Problem>('PATCH', `/v1/photos/${photo.id}`, { token: ada.token, json })
  t.match(await patch({ caption: 'two #b' }), { status: 200, body: { caption: 'two #b', tags: ['b'] } })
  t.match(await patch({ caption: ` ${'x'.repeat(2_200)} ` }), { status: 200 }, 'trimmed before it is measured')
  t.match(await patch({ caption: '👩‍🚀'.repeat(700) }), { status: 200 }, '2,100 code points')
  for (const json of [{}, { caption: 1 }, { caption: 'x'.repeat(2_201) }, { caption: 'a\0b' }, []]) {
    t.match(await patch(json), { status: 400, body: { code: 'invalid_request' } })
  }
  const tags = Array.from({ length: 31 }, (_, i) => `#t${i}`).join(' ')
  t.match(await patch({ caption: tags }), { status: 422, body: { code: 'too_many_tags' } })
  t.match(await patch({ caption: '' }), { status: 200, body: { caption: '', tags: [] } })
})

t.test('what is refused leaves nothing behind', async (t) => {
  const { api, web } = await serve(t)
  const ada = await api.signUp('ada')
  const tags = Array.from({ length: 31 }, (_, i) => `#t${i}`).join(' ')
  for (const form of [uploadForm(picture, tags), uploadForm(Buffer.from('no picture')), new FormData()]) {
    const { status } = await api.call('POST', '/v1/photos', { token: ada.token, form })
    t.ok(status >= 400 && status < 500)
  }
  t.same(await originals(web), [])
  const rows = await web.context.router.directory.primary.selectFrom('photos').select('id').execute()
  t.same(rows, [])
})

t.test('a photo that the database refuses leaves no blob; one of unknown fate keeps it', async (t) => {
  const { api, web } = await serve(t)
  const ada = await api.signUp('ada')
  const { primary } = web.context.router.directory
  const refusing = (body: string) => sql`create or replace function refuse() returns trigger language plpgsql as
    $$ begin ${sql.raw(body)}; return null; end $$`.execute(primary)
  await refusing("raise exception 'no'")
  await sql`create constraint trigger refuse after insert on photos deferrable initially deferred
    for each row execute function refuse()`.execute(primary)
  const post = () => api.call<Problem>('POST', '/v1/photos', { token: ada.token, form: uploadForm(picture) })

  t.match(await post(), { status: 500, body: { code: 'internal' } })
  t.same(await originals(web), [])
  await refusing('perform pg_terminate_backend(pg_backend_pid())')
  t.match(await post(), { status: 503, body: { code: 'unavailable' } })
  t.equal((await originals(web)).length, 1)
})

t.test('Idempotency-Key', async (t) => {
  const { api, web } = await serve(t)
  const [ada, bela] = [await api.signUp('ada'), await api.signUp('bela')]
  const post = (token: string, key: string, form: FormData) =>
    api.call<Photo & Problem>('POST', '/v1/photos', { token, form, headers: { 'idempotency-key': key } })

  await t.test('a hundred at once make one photo and get one answer', async (t) => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => post(ada.token, 'many', uploadForm(picture, 'x'))))
    const accepted = answers.filter(({ status }) => status === 202)
    const running = answers.filter(({ status }) => status === 409)
    t.ok(accepted.length >= 1)
    t.equal(accepted.length + running.length, 100)
    t.ok(running.every(({ body, headers }) => body.code === 'idempotency_in_progress' && Number(headers.get('retry-after')) >= 1))
    t.equal(new Set(accepted.map(({ body }) => JSON.stringify(body))).size, 1)
    t.same((await post(ada.token, 'many', uploadForm(picture, 'x'))).body, accepted[0]?.body, 'and so does one more')
    t.equal((await originals(web)).length, 1)
  })

  await t.test('another request with the same key is refused, and the answer stands', async (t) => {
    const first = await post(ada.token, 'key', uploadForm(picture, 'x'))
    for (const form of [uploadForm(other, 'x'), uploadForm(picture, 'y')]) {
      t.match(await post(ada.token, 'key', form), { status: 422, body: { code: 'idempotency_mismatch' } })
    }
    t.same((await post(ada.token, 'key', uploadForm(picture, 'x'))).body, first.body)
  })

  await t.test('keys are an account’s own', async (t) => {
    const [mine, theirs] = [await post(ada.token, 'same', uploadForm(picture)), await post(bela.token, 'same', uploadForm(other))]
    t.match([mine.status, theirs.status], [202, 202])
    t.not(mine.body.id, theirs.body.id)
    t.equal(theirs.body.account.username, 'bela')
  })

  await t.test('a 422 is kept, other refusals are not', async (t) => {
    const tags = Array.from({ length: 31 }, (_, i) => `#t${i}`).join(' ')
    for (const _ of [1, 2]) {
      t.match(await post(ada.token, 'kept', uploadForm(picture, tags)), { status: 422, body: { code: 'too_many_tags' } })
    }
    t.match(await post(ada.token, 'kept', uploadForm(picture, 'fine')), { status: 422, body: { code: 'idempotency_mismatch' } })
    t.match(await post(ada.token, 'free', uploadForm(Buffer.from('text'))), { status: 415 })
    t.match(await post(ada.token, 'free', uploadForm(picture)), { status: 202 })
  })

  await t.test('a key whose request crashed is taken over with the id it had', async (t) => {
    const { directory } = web.context.router
    const accountId = BigInt(ada.account.id)
    const crashed = await web.context.ids.mint(Number((accountId >> 10n) & 8191n))
    const row = { key: 'crashed', resource_id: crashed }
    await directory.primary
      .insertInto('idempotency_keys')
      .values({ ...row, account_id: accountId as typeof crashed, locked_until: new Date(Date.now() + 60_000) })
      .execute()
    t.match(await post(ada.token, 'crashed', uploadForm(picture)), { status: 409 })
    await directory.primary
      .updateTable('idempotency_keys')
      .set({ locked_until: new Date(Date.now() - 1) })
      .where('key', '=', 'crashed')
      .execute()
    t.match(await post(ada.token, 'crashed', uploadForm(picture)), { status: 202, body: { id: crashed.toString() } })
  })

  await t.test('only a new key needs an id', async (t) => {
    const { router } = web.context
    const noIds = () => Promise.reject(new Error('no ids'))
    const owner = (key: string) => ({ accountId: BigInt(ada.account.id) as Id, key })
    const { body } = await post(ada.token, 'answered', uploadForm(picture))
    t.match(await startKey(router, owner('answered'), noIds), { kind: 'done', answer: { status: 202, body } })
    await t.rejects(startKey(router, owner('new'), noIds), { message: 'no ids' })

    const resourceId = await web.context.ids.mint(shardOf(owner('left').accountId))
    t.match(await startKey(router, owner('left'), () => Promise.resolve(resourceId)), { kind: 'started', resourceId })
    t.match(await startKey(router, owner('left'), noIds), { kind: 'running' })
    await router.directory.primary
      .updateTable('idempotency_keys')
      .set({ locked_until: new Date(Date.now() - 1) })
      .where('key', '=', 'left')
      .execute()
    t.match(await startKey(router, owner('left'), noIds), { kind: 'started', resourceId })
  })

  await t.test('a slow request whose key was taken over neither frees it nor makes a second photo', async (t) => {
    const { router } = web.context
    const owner = { accountId: BigInt(ada.account.id) as Id, key: 'slow' }
    const mintId = () => web.context.ids.mint(shardOf(owner.accountId))
    const start = async () => {
      const state = await startKey(router, owner, mintId)
      if (state.kind !== 'started') throw new Error(`the key is ${state.kind}`)
      return state
    }
    const slow = await start()
    await router.directory.primary
      .updateTable('idempotency_keys')
      .set({ locked_until: new Date(Date.now() - 1) })
      .where('key', '=', 'slow')
      .execute()
    const retry = await start()
    t.equal(retry.resourceId, slow.resourceId)
    await releaseKey(router, owner, slow.hold)
    t.match(await post(ada.token, 'slow', uploadForm(picture)), { status: 409, body: { code: 'idempotency_in_progress' } })

    const finish = (resourceId: Id) =>
      router.write(shardOf(owner.accountId), (trx) => finishKey(trx, { ...owner, resourceId }, 'print', { status: 202, body: {} }))
    t.equal(await finish(await mintId()), false, 'the key stands for another id')
    t.equal(await finish(retry.resourceId), true)
    t.equal(await finish(slow.resourceId), false, 'the first answer stands')
  })
})

t.test('media are renditions and nothing else', async (t) => {
  const { api, web } = await serve(t)
  const ada = await api.signUp('ada')
  await api.upload(ada, picture)
  const key = `media/1/${'0'.repeat(32)}/thumb.jpg`
  await web.context.blobs.put(key, picture, { contentType: 'image/jpeg' })
  const whole = await api.bytes(`/${key}`)
  t.match(whole, { status: 200, body: { length: picture.length } })
  t.equal(whole.headers.get('content-type'), 'image/jpeg')
  t.equal(whole.headers.get('x-content-type-options'), 'nosniff')

  const part = (range: string) => api.call<string>('GET', `/${key}`, { headers: { range } })
  const middle = await part('bytes=10-19')
  t.equal(middle.status, 206)
  t.equal(middle.headers.get('content-range'), `bytes 10-19/${picture.length}`)
  t.equal(middle.headers.get('content-length'), '10')
  t.equal((await part(`bytes=${picture.length - 5}-`)).headers.get('content-length'), '5')
  const beyond = await part(`bytes=${picture.length}-`)
  t.match(beyond, { status: 416, body: { code: 'range_not_satisfiable' } })
  t.equal(beyond.headers.get('content-range'), `bytes */${picture.length}`)
  t.equal((await part('bytes=5-1')).status, 200, 'a range that is none is ignored')

  const [original = ''] = await originals(web)
  const hidden = [`/${original}`, `/media/${original}`, '/media/1/x/thumb.jpg', `/media/2/${'0'.repeat(32)}/thumb.jpg`]
  for (const path of [...hidden, `/${key}.bak`, '/media/%2e%2e/originals']) {
    t.match(await api.call('GET', path), { status: 404, body: { code: 'not_found' } }, path)
  }
})
