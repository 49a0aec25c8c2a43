import { sql } from 'kysely'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { packId, shardOf, type Id } from '#kernel/snowflake.ts'
import { withTrace } from '#platform/logger/trace.ts'
import { compileStatement } from '#platform/postgres/compiled-statement.ts'
import { anyId, BATCH_KEYS, gatheredById } from '#platform/postgres/gathered-read.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { findAccount, findAccounts } from '#domain/accounts/accounts.queries.ts'
import { insertSession, readStanding } from '#domain/accounts/sessions.queries.ts'
import type { AppRouter, Database } from '#domain/database.ts'
import { findPhoto, findPhotos } from '#domain/photos/photos.queries.ts'
import { createTestDatabase } from '../../support/database.ts'

const SILENT = pino({ level: 'silent' })
const BIRTH_MS = Date.UTC(2026, 5, 1)

const idOf = (shard: number): Id => packId({ ms: BIRTH_MS, shard, sequence: 1 })

/** A router over two nodes, odd shards on the second, with an account on each of `shards`. */
async function openTwoNodes(t: Test, shards: readonly number[]): Promise<AppRouter> {
  const nodes = []
  for (const name of ['ONE_URL', 'TWO_URL']) nodes.push({ name, url: (await createTestDatabase(t)).url })
  const [one = { url: '' }] = nodes
  const first = openPool<unknown>({ url: one.url, max: 1, applicationName: 'test' }, SILENT)
  await sql`update shard_map set node = case shard % 2 when 0 then 'ONE_URL' else 'TWO_URL' end`.execute(first)
  await first.destroy()
  const router = await openRouter<Database>({ nodes, poolMax: 4, applicationName: 'test' }, SILENT)
  t.teardown(() => router.close())
  for (const shard of shards) await addAccount(router, idOf(shard))
  return router
}

/** A router over one node with one connection, so that a test meets what it has left there. */
async function openOneConnection(t: Test, preparedStatements: boolean, log = SILENT): Promise<AppRouter> {
  const { url } = await createTestDatabase(t)
  const first = openPool<unknown>({ url, max: 1, applicationName: 'test' }, SILENT)
  await sql`update shard_map set node = 'DATABASE_URL'`.execute(first)
  await first.destroy()
  const nodes = [{ name: 'DATABASE_URL', url, preparedStatements }]
  const router = await openRouter<Database>({ nodes, poolMax: 1, applicationName: 'test' }, log)
  t.teardown(() => router.close())
  return router
}

async function addAccount(router: AppRouter, id: Id): Promise<void> {
  const account = { id, status: 'active', username: `a${id}`, display_name: '', email: null, feed_floor: id } as const
  await router.write(shardOf(id), (trx) => trx.insertInto('accounts').values(account).execute())
}

async function addPhoto(router: AppRouter, id: Id): Promise<void> {
  const file = { original_key: 'o', original_bytes: 1, media_type: 'image/jpeg' }
  const text = { caption: 'old', tags: ['one', 'two words'] }
  const photo = { id, account_id: id, status: 'processing' as const, ...text, ...file }
  await router.write(shardOf(id), (trx) => trx.insertInto('photos').values(photo).execute())
}

/** How many statements `work` sends, and what it gives. */
async function counting<T>(work: () => Promise<T>): Promise<{ statements: number; result: T }> {
  const cost = { statements: 0 }
  const result = await withTrace({ requestId: 'test', jobId: null, cost }, work)
  return { statements: cost.statements, result }
}

t.test('what many callers ask for in one tick takes one statement per node', async (t) => {
  const shards = Array.from({ length: 20 }, (_, shard) => shard)
  const router = await openTwoNodes(t, shards)
  const asked = [...shards, 100, 101].map(idOf)
  const { statements, result } = await counting(() => Promise.all(asked.map((id) => findAccount(router, id))))
  t.equal(statements, 2)
  t.same(result.map((row) => row?.id), [...shards.map(idOf), undefined, undefined], 'each gets its own')

  const mixed = await counting(() =>
    Promise.all([
      findAccounts(router, shards.slice(0, 6).map(idOf)),
      findAccount(router, idOf(3)),
      findAccounts(router, [idOf(5), idOf(100), idOf(2), idOf(5)]),
      findAccounts(router, []),
    ]),
  )
  t.equal(mixed.statements, 2)
  const [six, three, some, none] = mixed.result
  t.same(new Set(six.keys()), new Set(shards.slice(0, 6).map(idOf)), 'and nothing of the others’')
  t.equal(three?.id, idOf(3))
  t.same(new Set(some.keys()), new Set([idOf(5), idOf(2)]))
  t.equal(none.size, 0)
  t.equal((await counting(() => findAccount(router, idOf(1)))).statements, 1)
})

t.test('a read begins after it was asked for', async (t) => {
  const router = await openTwoNodes(t, [2])
  const rename = (name: string) => router.write(2, (trx) => trx.updateTable('accounts').set({ display_name: name }).execute())
  const early = findAccount(router, idOf(2))
  await new Promise((resolve) => setImmediate(resolve))
  await rename('new')
  const { statements, result } = await counting(() => findAccount(router, idOf(2)))
  t.equal(statements, 1, 'it joins no batch that has been sent')
  t.equal(result?.display_name, 'new')
  await early
})

t.test('a batch is bounded, and keeps the order of the keys', async (t) => {
  const router = await openTwoNodes(t, [])
  const db = router.directory.primary
  const ids = Array.from({ length: BATCH_KEYS + 7 }, (_, index) => packId({ ms: BIRTH_MS, shard: 0, sequence: index }))
  await sql`create table things (id bigint primary key)`.execute(db)
  await sql`insert into things select unnest(${ids}::bigint[])`.execute(db)
  const things = gatheredById(
    compileStatement<Database, { id: Id }>((db) => db.selectFrom(sql<{ id: Id }>`things`.as('things')).select('id').where('id', '=', anyId<Id>())),
  )
  const wanted = ids.toReversed()
  const { statements, result } = await counting(() => things.many(db, wanted))
  t.equal(statements, 2)
  t.same(result.map((row) => row.id), wanted)
})

t.test('an error reaches everyone who asked, and nobody who asks later', async (t) => {
  const router = await openTwoNodes(t, [2, 3])
  const one = router.nodeOf(2).primary
  await sql`alter table accounts rename to hidden`.execute(one)
  const settled = await Promise.allSettled([2, 4, 2, 3].map((shard) => findAccount(router, idOf(shard))))
  t.same(settled.map((each) => each.status), ['rejected', 'rejected', 'rejected', 'fulfilled'])
  t.match(settled[1], { reason: { code: '42P01' } })
  await t.rejects(findAccounts(router, [idOf(2), idOf(3)]), { code: '42P01' })
  await sql`alter table hidden rename to accounts`.execute(one)
  t.equal((await findAccount(router, idOf(2)))?.id, idOf(2))
})

t.test('sessions of a tick are told apart by their accounts', async (t) => {
  const router = await openTwoNodes(t, [2, 4, 6])
  const [own, other] = [idOf(2), idOf(4)]
  const sessionId = packId({ ms: BIRTH_MS, shard: 2, sequence: 9 })
  const session = { accountId: own, sessionId, userAgent: '', nowMs: BIRTH_MS }
  await router.write(2, (trx) => insertSession(trx, session))
  const { statements, result } = await counting(() =>
    Promise.all([readStanding(router, other, sessionId), readStanding(router, own, sessionId), readStanding(router, own, own)]),
  )
  t.equal(statements, 1)
  t.match(result, [undefined, { status: 'active', role: 'member' }, undefined])
})

t.test('prepared statements survive a migration', async (t) => {
  const router = await openOneConnection(t, true)
  const db = router.directory.primary
  const id = idOf(7)
  await addPhoto(router, id)
  t.match(await findPhoto(router, id), { id, caption: 'old', tags: ['one', 'two words'], published_id: null })
  const pid = async () => (await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)).rows[0]?.pid
  const before = await pid()
  await sql`alter table photos add column later int not null default 7`.execute(db)
  const row = (await findPhotos(router, [id])).get(id)
  t.match(row, { id, caption: 'old' })
  t.notOk(row !== undefined && 'later' in row, 'it lists its columns')
  t.equal(await pid(), before)

  await sql`alter table photos alter column caption type varchar(100)`.execute(db)
  await t.rejects(findPhoto(router, id), { message: /cached plan must not change result type/ })
  t.match(await findPhoto(router, id), { caption: 'old' }, 'once for a connection, which is then replaced')
})

t.test('statements are named where that is on, and only there', async (t) => {
  for (const isOn of [true, false]) {
    const router = await openOneConnection(t, isOn)
    await addPhoto(router, idOf(7))
    t.ok(await findPhoto(router, idOf(7)))
    const { rows } = await sql<{ statement: string }>`select statement from pg_prepared_statements where name <> ''`.execute(
      router.directory.primary,
    )
    t.equal(rows.length, isOn ? 1 : 0, isOn ? 'on' : 'off')
    if (isOn) t.match(rows[0]?.statement, /^select "id", .* from "photos" where "id" = any\(\$1::bigint\[\]\)$/)
  }
})

t.test('behind a pooler that keeps no prepared statements, the log names the setting', async (t) => {
  const lines: string[] = []
  const router = await openOneConnection(t, true, pino({ level: 'error' }, { write: (line: string) => void lines.push(line) }))
  await addPhoto(router, idOf(7))
  await findPhoto(router, idOf(7))
  await sql`deallocate all`.execute(router.directory.primary)
  await t.rejects(findPhoto(router, idOf(7)), { code: '26000' })
  t.match(lines, [/DATABASE_PREPARED_STATEMENTS=off/])
  t.ok(await findPhoto(router, idOf(7)), 'the connection has been replaced')
})

t.test('a compiled statement lists its columns, and takes the parameters it has', async (t) => {
  for (const table of ['photos', 'accounts'] as const) {
    t.throws(() => compileStatement((db) => db.selectFrom(sql`photos`.as(table)).selectAll()), TypeError)
    t.throws(() => compileStatement((db) => db.selectFrom(sql`photos`.as(table)).selectAll(table)), TypeError)
  }
  const one = compileStatement<Database, { id: Id }>((db) => db.selectFrom('photos').select('id').where('id', '=', anyId<Id>()))
  const router = await openOneConnection(t, true)
  await t.rejects(one(router.directory.primary, []), TypeError)
})
