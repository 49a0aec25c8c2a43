import { sql } from 'kysely'
import { pino } from 'pino'
import t from 'tap'
import { expireLeases, readOccupancy, warnOfOccupancy } from '#platform/id-lease/house-keeping.ts'
import { createLedger, LEASE_MS } from '#platform/id-lease/ledger.ts'
import { createMetrics } from '#platform/metrics/metrics.ts'
import { createHouseKeeper } from '#platform/lifecycle/house-keeper.ts'
import { chores } from '../../../services/id-allocator/chores.ts'
import { mustGrant, openLedger, START_MS } from './ledger-at.ts'

const DAY_MS = 24 * 3_600_000

t.test('leases that ended a day ago are deleted, and no new one begins before their end', async (t) => {
  const { db, ledger, told } = await openLedger(t)
  const old = await mustGrant(ledger)
  told.ms += DAY_MS
  await mustGrant(ledger)
  t.equal(await expireLeases(db, told), 0, 'the first ended less than a day ago')
  told.ms += LEASE_MS + 1
  t.equal(await expireLeases(db, told), 1)
  t.equal(await expireLeases(db, told), 0)

  told.ms = START_MS
  const again = await mustGrant(ledger)
  t.equal(again.rectangle.firstSequence, old.rectangle.firstSequence)
  t.equal(again.rectangle.fromMs, old.rectangle.untilMs, 'a clock that goes back does not bring its time back')
})

t.test('a clock that was wrong for an hour costs nothing when it is set right', async (t) => {
  const { db, ledger, told } = await openLedger(t)
  await mustGrant(ledger)
  told.ms += 3_600_000
  await mustGrant(ledger)
  await expireLeases(db, told)
  told.ms -= 3_600_000
  const { rectangle } = await mustGrant(ledger)
  t.equal(rectangle.fromMs, told.ms)
})

t.test('expiry works in batches', async (t) => {
  const { db, told } = await openLedger(t)
  await sql`insert into id_leases (holder, sequences, period)
    select 'old', int4range(i % 1024, i % 1024 + 1), int8range(${START_MS}::int8 + i / 1024, ${START_MS}::int8 + i / 1024 + 1)
    from generate_series(0, 1499) as i`.execute(db)
  told.ms += 2 * DAY_MS
  t.same([await expireLeases(db, told), await expireLeases(db, told), await expireLeases(db, told)], [1_000, 500, 0])
})

t.test('occupancy counts what is taken now, by lanes of one width', async (t) => {
  const { db, ledger, told } = await openLedger(t)
  t.same(await readOccupancy(db, 8, told), { leases: 0, sequencesTaken: 0, lanesFree: 128, lanesTotal: 128 })
  const lease = await mustGrant(ledger, 12)
  await mustGrant(ledger, 1)
  t.same(await readOccupancy(db, 8, told), { leases: 2, sequencesTaken: 13, lanesFree: 126, lanesTotal: 128 })
  await ledger.release(lease.leaseId, lease.rectangle.fromMs)
  t.same(await readOccupancy(db, 1_024, told), { leases: 1, sequencesTaken: 1, lanesFree: 0, lanesTotal: 1 })
  told.ms += LEASE_MS
  t.equal((await readOccupancy(db, 8, told)).lanesFree, 128)
})

t.test('the warning comes while a quarter of the lanes is still free', async (t) => {
  const occupancy = { leases: 0, sequencesTaken: 0, lanesTotal: 128 }
  t.equal(warnOfOccupancy({ ...occupancy, lanesFree: 32 }), undefined)
  t.match(warnOfOccupancy({ ...occupancy, lanesFree: 31 }), /31 of 128 id lanes/)
})

t.test('the allocator deletes, measures and warns', async (t) => {
  const { db } = await openLedger(t)
  await sql`insert into id_leases (holder, sequences, period)
    values ('old', int4range(0, 8), int8range(${Date.UTC(2026, 0, 1)}::int8, ${Date.UTC(2026, 0, 2)}::int8))`.execute(db)
  const ledger = createLedger(db)
  await mustGrant(ledger, 768)
  const warnings: string[] = []
  const metrics = createMetrics('id-allocator')
  const log = pino({ level: 'warn' }, { write: (line) => warnings.push(line) })
  const houseKeeper = createHouseKeeper(chores({ directory: db, laneWidth: 256, metrics, log }), log)

  await houseKeeper.runOnce()
  t.same(warnings, [])
  t.equal((await sql`select from id_leases where holder = 'old'`.execute(db)).rows.length, 0)
  const text = await metrics.metrics()
  t.match(text, /monogram_id_lanes{state="free",process="id-allocator"} 1\n/)
  t.match(text, /monogram_id_sequences_taken{process="id-allocator"} 768\n/)

  await mustGrant(ledger, 1)
  await houseKeeper.runOnce()
  t.match(warnings[0], /Only 0 of 4 id lanes/)
})
