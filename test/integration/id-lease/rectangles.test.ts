import fc from 'fast-check'
import { sql } from 'kysely'
import t from 'tap'
import type { Grant } from '#platform/id-lease/lease-source.ts'
import { expireLeases } from '#platform/id-lease/house-keeping.ts'
import { LEASE_MS } from '#platform/id-lease/ledger.ts'
import { areApart, openLedger, START_MS } from './ledger-at.ts'
import type { LedgerUnderTest } from './ledger-at.ts'

const RUNS = 120
const DAY_MS = 24 * 3_600_000

type Step =
  | { do: 'grant'; laneWidth: number }
  | { do: 'renew'; which: number }
  | { do: 'release'; which: number; used: number }
  | { do: 'move'; ms: number }
  | { do: 'fail over' }
  | { do: 'expire' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('grant' as const), laneWidth: fc.constantFrom(1, 8, 64, 256, 300, 1_024) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('renew' as const), which: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat(50), used: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('move' as const),
      ms: fc.oneof(fc.nat(LEASE_MS), fc.constantFrom(-5_000, 3_600_000, -3_600_000, 2 * DAY_MS, -2 * DAY_MS)),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'fail over' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'expire' as const }) },
)

/** Walks through the steps; returns every rectangle in which some holder may ever have minted. */
async function walk({ db, ledger, told }: LedgerUnderTest, steps: readonly Step[]): Promise<Pick<Grant, 'rectangle'>[]> {
  const held: Grant[] = []
  const over: Pick<Grant, 'rectangle'>[] = []
  for (const now of steps) {
    if (now.do === 'grant') {
      const answer = await ledger.grant({ holder: 'test', laneWidth: now.laneWidth })
      if (answer.leaseId !== null) held.push(answer)
    } else if (now.do === 'renew') {
      const lease = held[now.which % held.length]
      const renewed = lease && (await ledger.renew(lease.leaseId))
      if (lease && renewed) held[held.indexOf(lease)] = renewed
    } else if (now.do === 'release') {
      const [lease] = held.splice(now.which % (held.length || 1), 1)
      if (lease === undefined) continue
      const { fromMs, untilMs } = lease.rectangle
      const usedUntilMs = fromMs + Math.floor((untilMs - fromMs) * now.used)
      await ledger.release(lease.leaseId, usedUntilMs)
      over.push({ rectangle: { ...lease.rectangle, untilMs: usedUntilMs } })
    } else if (now.do === 'move') {
      told.ms = Math.max(START_MS - 3 * DAY_MS, told.ms + now.ms)
    } else if (now.do === 'fail over') {
      told.line = String(Number(told.line) + 1).padStart(8, '0')
    } else {
      await expireLeases(db, told)
    }
  }
  return [...held, ...over].filter(({ rectangle }) => rectangle.untilMs > rectangle.fromMs)
}

t.test('whatever happens, no two rectangles ever share a point', async (t) => {
  const tested = await openLedger(t)
  let granted = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
      await sql`truncate id_leases`.execute(tested.db)
      await sql`update id_ledger_state set timeline = '00000001', grants_from_ms = 0`.execute(tested.db)
      Object.assign(tested.told, { ms: START_MS, line: '00000001' })
      const rectangles = await walk(tested, steps)
      granted += rectangles.length
      return areApart(rectangles)
    }),
    { numRuns: RUNS },
  )
  t.ok(granted > RUNS, `and ${granted} leases were granted`)
})

t.test('grants that a failover lost are not repeated', async (t) => {
  const tested = await openLedger(t)
  const { db, ledger, told } = tested
  const survivor = await ledger.grant({ holder: 'survivor', laneWidth: 8 })
  told.ms += 10_000
  const lost = [await ledger.grant({ holder: 'lost', laneWidth: 8 }), await ledger.grant({ holder: 'lost', laneWidth: 256 })]
  await sql`delete from id_leases where holder = 'lost'`.execute(db)
  told.line = '00000002'
  told.ms += 1
  t.equal(await ledger.renew(lost[0]?.leaseId ?? ''), undefined)
  const after = [await ledger.grant({ holder: 'new', laneWidth: 8 }), await ledger.grant({ holder: 'new', laneWidth: 512 })]
  const all = [survivor, ...lost, ...after].filter((answer) => answer.leaseId !== null)
  t.equal(all.length, 5)
  t.ok(areApart(all))
})
