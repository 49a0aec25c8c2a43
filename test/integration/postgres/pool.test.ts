import { sql } from 'kysely'
import { pino } from 'pino'
import t from 'tap'
import { openPool } from '#platform/postgres/pool.ts'
import { createTestDatabase } from '../../support/database.ts'
import { eventually } from '../../support/eventually.ts'

const SILENT = pino({ level: 'silent' })

t.test('a connection whose query timed out is not used again', async (t) => {
  const { url } = await createTestDatabase(t)
  const db = openPool<unknown>({ url, max: 1, applicationName: 'test', queryTimeoutMs: 1_000 }, SILENT)
  t.teardown(() => db.destroy())
  const pid = async () => (await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)).rows[0]?.pid
  const before = await pid()
  t.equal(await pid(), before)

  await t.rejects(sql`select pg_sleep(20)`.execute(db), { message: 'Query read timeout' })
  t.not(await pid(), before, 'behind it this would wait')

  const transaction = db.transaction().execute((trx) => sql`select pg_sleep(20)`.execute(trx))
  await t.rejects(transaction, { message: 'Query read timeout' }, 'nor does a rollback wait behind it')
  t.type(await pid(), 'number')
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`.execute(db)
})

t.test('a session that the server ends is not used again, even before its socket closes', async (t) => {
  const { url } = await createTestDatabase(t)
  const db = openPool<unknown>({ url, max: 1, applicationName: 'test' }, SILENT)
  t.teardown(() => db.destroy())
  for (let i = 0; i < 3; i++) {
    await t.rejects(sql`select pg_terminate_backend(pg_backend_pid())`.execute(db), { code: '57P01' })
    t.same((await sql`select 1 as one`.execute(db)).rows, [{ one: 1 }])
  }
})

t.test('a pool ends though a statement of its own waits for somebody’s lock', async (t) => {
  const { url } = await createTestDatabase(t)
  const holder = openPool<unknown>({ url, max: 2, applicationName: 'test' }, SILENT)
  t.teardown(() => holder.destroy())
  await sql`create table things (id int)`.execute(holder)
  const db = openPool<unknown>({ url, max: 2, applicationName: 'test' }, SILENT)
  const lock = await holder.startTransaction().execute()
  await sql`lock table things`.execute(lock)
  const waiting = [sql`select from things`.execute(db), db.transaction().execute((trx) => sql`select from things`.execute(trx))]
  const ends = Promise.allSettled(waiting)
  await eventually('both wait', async () => {
    const { rows } = await sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(holder)
    return rows.length === 2 ? true : undefined
  })
  await db.destroy()
  t.same((await ends).map(({ status }) => status), ['rejected', 'rejected'])
  await lock.rollback().execute()
})
