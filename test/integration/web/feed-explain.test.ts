import { sql } from 'kysely'
import t from 'tap'
import type { Id } from '#kernel/snowflake.ts'
import { putToRest } from '#domain/feed/dormancy.ts'
import { shardOf } from '#kernel/snowflake.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { backfill, pass, publish, upload } from '../cache/cached-webs.ts'
import { delivery, photoBody } from '../feed/feed-world.ts'
import { startWeb, type Person } from './web-app.ts'

t.test('why a photo is in a feed, or is not, for its reader and for moderators', async (t) => {
  const web = await startWeb(t)
  const { context } = web
  const db = context.router.directory.primary
  await ensurePartitions(db, Date.now())
  const [author, reader, other, moderator] = [await web.person('author'), await web.person('reader'), await web.person('other'), await web.person('moderator')]
  await sql`update accounts set role = 'moderator' where id = ${moderator.id}`.execute(db)

  const explain = (photo: unknown, as: Person = reader, account = reader.id) =>
    web.send('GET', `/v1/debug/feed-explain?account=${account}&photo=${String(photo)}`, { as })
  const reason = async (photo: unknown, as?: Person, account?: string): Promise<string> => {
    const { status, body } = await explain(photo, as, account)
    return status === 200 ? `${String(body.inFeed)}: ${body.reason ?? ''}` : String(status)
  }

  const photo = await publish(context, author)
  t.equal(await reason(photo), 'false: It is not in the feed: the account does not follow the author.')
  t.equal(await reason(photo, author, author.id), 'false: It is not in the feed: accounts do not see their own photos in their feeds.')
  await web.send('PUT', `/v1/accounts/${author.id}/follow`, { as: reader })
  t.match(await reason(photo), /^true: .*the follow is new/)
  await backfill(context, reader, author)
  t.equal(await reason(photo), 'true: It is in the feed: the photo is stored in the feed.')
  t.equal(await reason(photo, moderator), await reason(photo), 'the same to a moderator')

  const late = await upload(context, author)
  t.equal(await reason(late), '404', 'what the reader may not know of')
  t.match(await reason(late, moderator), /^false: .*the photo is processing, not published/)
  await pass(context, author, late)
  t.match(await reason(late), /^false: .*the fan-out of the photo is not done yet/)
  await fanOutPhoto(context).handle(photoBody(late), delivery())
  t.match(await reason(late), /^true: .*is stored/)
  await sql`delete from feed_entries where photo_id = ${late}`.execute(db)
  t.match(await reason(late), /^false: .*its entry is not stored, though its fan-out is done/)
  await sql`update accounts set feed_floor = ${late + (1n << 40n)} where id = ${reader.id}`.execute(db)
  t.match(await reason(late), /^true: .*older than the stored part/)
  await sql`update accounts set feed_floor = 0 where id = ${reader.id}`.execute(db)

  // As it stands for an author with too many followers.
  await sql`insert into pulled_authors (author_id, first_published_id, epoch) values (${author.id}, 0, 0)`.execute(db)
  await sql`update accounts set pull_from = 0 where id = ${author.id}`.execute(db)
  const pulled = await publish(context, author)
  await sql`update accounts set pull_from = null where id = ${author.id}`.execute(db)
  t.match((await explain(pulled)).body.rules?.find((rule) => rule.name === 'pulled'), { holds: true })

  const readerId = BigInt(reader.id) as Id
  await context.router.write(shardOf(readerId), (trx) => putToRest(trx, readerId, new Date(Date.now() + 60_000)))
  const missed = await publish(context, author)
  t.match(await reason(missed, moderator), /^false: .*nobody has used the account for a month/)

  await web.send('DELETE', `/v1/photos/${String(missed)}`, { as: author })
  const absent = [
    await explain(photo, other), // Somebody else's feed.
    await explain(photo, author), // Also its author's.
    await explain(missed),
    await explain(missed, moderator),
    await explain('1'),
    await explain('x', moderator),
    await explain(photo, moderator, '99'),
    await explain(photo, moderator, '-1'),
  ]
  const essence = absent.map(({ status, body }) => ({ status, code: body.code, detail: body.detail }))
  t.same(essence, absent.map(() => ({ status: 404, code: 'not_found', detail: 'There is no such feed, or no such photo.' })))
  t.equal((await web.send('GET', `/v1/debug/feed-explain?account=${reader.id}&photo=${String(photo)}`)).status, 401)
  t.match(await web.send('GET', '/v1/debug/feed-explain', { as: reader }), { status: 400, body: { code: 'invalid_request' } })
})
