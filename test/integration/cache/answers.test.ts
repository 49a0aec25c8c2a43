import t from 'tap'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { ListOf } from '../../../services/web/pagination.ts'
import { AccountSchema } from '../../../services/web/schemas/account.schema.ts'
import { PhotoSchema } from '../../../services/web/schemas/photo.schema.ts'
import { essence, pass, publish, startCachedWebs, upload } from './cached-webs.ts'

t.test('with and without the cache the answers are the same, byte for byte', async (t) => {
  const { here, there, plain, flush } = await startCachedWebs(t)
  const [author, reader] = [await here.person('author'), await here.person('reader')]
  await here.send('PATCH', '/v1/me', { as: author, body: { displayName: 'Zoë “Z” </script> \u2028', bio: 'a\nb' } })
  await here.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  const photos = []
  for (let index = 0; index < 5; index++) photos.push(await publish(here.context, author, `Nr ${index} 😀 #tag"\\`))
  const waiting = await upload(here.context, author)
  const [photo] = photos

  const photoPage = ListOf(PhotoSchema)
  const paths: { path: string; schema?: TSchema }[] = [
    { path: '/v1/feed', schema: photoPage },
    { path: '/v1/feed?limit=2', schema: photoPage },
    { path: `/v1/photos/${photo}`, schema: PhotoSchema },
    { path: `/v1/photos/${waiting}` },
    { path: '/v1/photos/1' },
    { path: `/v1/accounts/${author.id}`, schema: AccountSchema },
    { path: '/v1/accounts/AUTHOR', schema: AccountSchema },
    { path: '/v1/accounts/nobody' },
    { path: '/v1/accounts/1' },
    { path: `/v1/accounts/${author.id}/photos`, schema: photoPage },
    { path: `/v1/accounts/${author.id}/photos?limit=2`, schema: photoPage },
    { path: `/v1/accounts/${reader.id}/photos`, schema: photoPage },
    { path: '/v1/accounts/1/photos' },
  ]
  for (const as of [undefined, reader, author]) {
    for (const { path, schema } of paths) {
      await flush()
      const options = as === undefined ? {} : { as }
      const expected = await plain.send('GET', path, options)
      // A problem names its request.
      const isProblem = expected.status !== 200
      const look = (answer: typeof expected): object =>
        isProblem ? { status: answer.status, code: answer.body.code } : essence(answer)
      const who = as?.username ?? 'anonymous'
      for (const [how, web] of [['missing', here], ['kept', here], ['kept by another', there]] as const) {
        t.same(look(await web.send('GET', path, options)), look(expected), `${path} as ${who}, ${how}`)
      }
      if (isProblem) continue
      if (schema !== undefined) t.ok(Compile(schema).Check(expected.body), `${path} is what its schema says`)
      t.match(expected.headers, { 'cache-control': 'private, no-cache', 'vary': 'Authorization' }, path)
      if (schema === photoPage) {
        t.notOk(expected.headers.etag, `${path} is a list, which has no tag`)
        continue
      }
      const tag = String(expected.headers.etag)
      const again = await here.send('GET', path, { ...options, headers: { 'if-none-match': tag } })
      t.same([again.status, again.text, again.headers.etag], [304, '', tag], `${path} is not sent twice`)
      const head = await here.send('HEAD', path, options)
      t.same([head.status, head.text, head.headers.etag], [200, '', tag], `HEAD ${path}`)
    }
  }
  await pass(here.context, author, waiting)
})

t.test('a list is the same from page to page, from the kept part into the rest', async (t) => {
  const { here, plain, flush } = await startCachedWebs(t)
  const author = await here.person('author')
  for (let index = 0; index < 7; index++) await publish(here.context, author)
  await flush()
  let path: string | undefined = `/v1/accounts/${author.id}/photos?limit=3`
  for (let pages = 0; path !== undefined; pages++) {
    const [cached, expected] = [await here.send('GET', path), await plain.send('GET', path)]
    t.same(essence(cached), essence(expected), `page ${pages}`)
    const next: unknown = expected.body.next
    path = typeof next === 'string' ? `/v1/accounts/${author.id}/photos?limit=3&cursor=${next}` : undefined
  }
})
