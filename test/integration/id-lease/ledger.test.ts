import { sql } from 'kysely'
import t from 'tap'
import { createLedger, LEASE_MS, serverSenses } from '#platform/id-lease/ledger.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { sqlstateOf } from '#platform/postgres/database-errors.ts'
import { areApart, mustGrant, openLedger, silent, START_MS } from './ledger-at.ts'

const CLOCK_LAG_MS = 5_000
const EXCLUSION_VIOLATION_SQLSTATE = '23P01'

t.test('a grant is a lane for one lease from now', async (t) => {
  const { ledger } = await openLedger(t)
  const first = await mustGrant(ledger)
  t.same(first.rectangle, { firstSequence: 0, sequenceCount: 8, fromMs: START_MS, untilMs: START_MS + LEASE_MS })
  t.equal(first.ledgerNowMs, START_MS)
  t.equal((await mustGrant(ledger)).rectangle.firstSequence, 8)
  await t.rejects(mustGrant(ledger, 0), RangeError)
  await t.rejects(mustGrant(ledger, 1_025), RangeError)
})

t.test('a renewal moves the end of the same rectangle', async (t) => {
  const { ledger, told } = await openLedger(t)
  const lease = await mustGrant(ledger)
  told.ms += 30_000
  const renewed = await ledger.renew(lease.leaseId)
  t.same(renewed?.rectangle, { ...lease.rectangle, untilMs: told.ms + LEASE_MS })
  told.ms -= 3_600_000
  t.same((await ledger.renew(lease.leaseId))?.rectangle, renewed?.rectangle, 'an end never moves back')
})

t.test('a lease that is over, about to be, or unknown is not renewed', async (t) => {
  const { ledger, told } = await openLedger(t)
  const lease = await mustGrant(ledger)
  told.ms += LEASE_MS - 5_000
  t.equal(await ledger.renew(lease.leaseId), undefined)
  told.ms += 5_000
  t.equal(await ledger.renew(lease.leaseId), undefined)
  t.equal(await ledger.renew('00000000-0000-4000-8000-000000000000'), undefined)
})

t.test('lanes of every width share the sequence numbers, until there are none', async (t) => {
  const { ledger, told } = await openLedger(t)
  const grants = [8, 1, 16, 512, 8, 256, 1, 3, 64].map((width) => () => mustGrant(ledger, width))
  const granted = []
  for (const grant of grants) granted.push(await grant())
  t.ok(areApart(granted))
  told.ms += 1_000
  t.same(await ledger.grant({ holder: 'late', laneWidth: 512 }), { leaseId: null, freeInMs: LEASE_MS - 1_000 })
  t.equal((await mustGrant(ledger, 32)).rectangle.sequenceCount, 32, 'narrower lanes still fit')
  told.ms += LEASE_MS
  t.equal((await mustGrant(ledger, 1_024)).rectangle.sequenceCount, 1_024, 'all free again')
})

t.test('what is given back can be granted at once, but not what was used', async (t) => {
  const { ledger, told } = await openLedger(t)
  const all = await mustGrant(ledger, 1_024)
  told.ms += 10
  await ledger.release(all.leaseId, told.ms + 5)
  t.same(await ledger.grant({ holder: 'test', laneWidth: 1_024 }), { leaseId: null, freeInMs: 5 })
  told.ms += 5
  const next = await mustGrant(ledger, 1_024)
  t.equal(next.rectangle.fromMs, told.ms)
  await ledger.release(next.leaseId, next.rectangle.fromMs)
  const unused = await mustGrant(ledger, 1_024)
  t.equal(unused.rectangle.fromMs, told.ms, 'a lease of which nothing was used leaves no trace')
  t.ok(areApart([{ rectangle: { ...all.rectangle, untilMs: START_MS + 15 } }, unused]))
  t.equal(await ledger.renew(next.leaseId), undefined)
})

t.test('after a failover every grant begins a full lease and a little later, also for who did not see it', async (t) => {
  const { db, ledger, told } = await openLedger(t)
  const before = await mustGrant(ledger)
  told.line = '00000002'
  told.ms += 20_000
  const resumedMs = told.ms + LEASE_MS + CLOCK_LAG_MS
  t.equal((await ledger.renew(before.leaseId))?.rectangle.untilMs, told.ms + LEASE_MS, 'a lease that survived goes on')
  told.ms += 10_000
  const after = await mustGrant(createLedger(db, told))
  t.equal(after.rectangle.fromMs, resumedMs, 'the wait counts from the first sight of the new timeline')
  t.equal(after.rectangle.untilMs, resumedMs + LEASE_MS)
  told.ms = resumedMs + 1
  t.equal((await mustGrant(ledger)).rectangle.fromMs, told.ms, 'and then it is over')
  told.line = '00000003'
  t.equal((await mustGrant(ledger)).rectangle.fromMs, told.ms + LEASE_MS + CLOCK_LAG_MS, 'a second failover waits again')
})

t.test('a promoted server whose clock is behind repeats no grant that was lost', async (t) => {
  for (const behindMs of [1, CLOCK_LAG_MS, 3_600_000]) {
    const { db, ledger, told } = await openLedger(t)
    const survivor = await mustGrant(ledger)
    told.ms += 20_000
    const lost = await mustGrant(ledger)
    await sql`delete from id_leases where lease_id = ${lost.leaseId}::uuid`.execute(db)
    told.line = '00000002'
    told.ms -= behindMs
    for (const ms of [told.ms, lost.rectangle.fromMs, lost.rectangle.untilMs - 1]) {
      told.ms = ms
      const after = await mustGrant(ledger)
      t.ok(areApart([survivor, lost, after]), `${behindMs} ms behind`)
    }
  }
})

t.test('the server tells its own time and timeline', async (t) => {
  const { db } = await openLedger(t)
  const { rows } = await sql<{ told: string; known: string; off_ms: number }>`
    select ${serverSenses.timeline} as told, upper(lpad(to_hex(timeline_id), 8, '0')) as known,
      abs(${serverSenses.nowMs}::float8 - extract(epoch from clock_timestamp())::float8 * 1000) as off_ms
    from pg_control_checkpoint()`.execute(db)
  t.equal(rows[0]?.told, rows[0]?.known)
  t.ok((rows[0]?.off_ms ?? Infinity) < 1_000)
  t.ok(Math.abs((await mustGrant(createLedger(db))).rectangle.fromMs - Date.now()) < 10_000)
})

t.test('two allocators that grant at once never grant the same', async (t) => {
  const { url, ledger, told } = await openLedger(t)
  const other = openPool<unknown>({ url, max: 4, applicationName: 'other-allocator' }, silent)
  t.teardown(() => other.destroy())
  const ledgers = [ledger, createLedger(other, told)]
  const widths = [8, 4, 16]
  const grants = await Promise.all(
    Array.from({ length: 60 }, (_, i) => mustGrant(ledgers[i % 2] ?? ledger, widths[i % 3])),
  )
  t.ok(areApart(grants))
  t.equal(new Set(grants.map((grant) => grant.leaseId)).size, 60)
})

t.test('the database itself refuses rectangles that overlap', async (t) => {
  const { db, ledger } = await openLedger(t)
  await mustGrant(ledger)
  const insert = (sequences: string, period: string): Promise<unknown> =>
    sql`insert into id_leases (holder, sequences, period) values ('rogue', ${sequences}::int4range, ${period}::int8range)`.execute(db)
  await t.rejects(insert('[7,8)', `[${START_MS + LEASE_MS - 1},${START_MS + LEASE_MS})`), { code: EXCLUSION_VIOLATION_SQLSTATE })
  await insert('[7,8)', `[${START_MS + LEASE_MS},${START_MS + LEASE_MS + 1})`)
  for (const [sequences, period] of [['[1020,1025)', '[1800000000000,1800000000001)'], ['[0,1)', '[0,5)'], ['empty', '[1800000000000,1800000000001)']]) {
    const error = await insert(sequences ?? '', period ?? '').then(() => undefined, (refusal: unknown) => refusal)
    t.equal(sqlstateOf(error), '23514')
  }
})
