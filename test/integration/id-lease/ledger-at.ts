import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import { pino } from 'pino'
import type { Test } from 'tap'
import { createLedger } from '#platform/id-lease/ledger.ts'
import type { LedgerSenses } from '#platform/id-lease/ledger.ts'
import type { Grant, LeaseSource } from '#platform/id-lease/lease-source.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { createTestDatabase } from '../../support/database.ts'

const POOL_CONNECTIONS = 4

export const START_MS = Date.UTC(2026, 10, 22)
export const silent = pino({ level: 'silent' })

/** What the test says the ledger's server senses. */
export interface ToldSenses extends LedgerSenses {
  ms: number
  line: string
}

export interface LedgerUnderTest {
  readonly db: Kysely<unknown>
  readonly url: string
  /** A ledger that believes `told`. */
  readonly ledger: LeaseSource
  readonly told: ToldSenses
}

/** A database of the test's own, and a ledger in it whose clock and timeline the test sets. */
export async function openLedger(t: Test): Promise<LedgerUnderTest> {
  const { url } = await createTestDatabase(t)
  const db = openPool<unknown>({ url, max: POOL_CONNECTIONS, applicationName: 'id-ledger-test' }, silent)
  t.teardown(() => db.destroy())
  const told: ToldSenses = {
    ms: START_MS,
    line: '00000001',
    get nowMs() {
      return sql`${this.ms}::int8`
    },
    get timeline() {
      return sql`${this.line}::text`
    },
  }
  return { db, url, told, ledger: createLedger(db, told) }
}

/** A grant that must come. */
export async function mustGrant(ledger: LeaseSource, laneWidth = 8): Promise<Grant> {
  const answer = await ledger.grant({ holder: 'test', laneWidth })
  if (answer.leaseId === null) throw new Error(`no lane is free for ${answer.freeInMs} ms`)
  return answer
}

/** True if no two of the grants' rectangles share a point. */
export function areApart(grants: readonly Pick<Grant, 'rectangle'>[]): boolean {
  return grants.every(({ rectangle: a }, i) =>
    grants.slice(i + 1).every(({ rectangle: b }) => {
      const sequences = a.firstSequence < b.firstSequence + b.sequenceCount && b.firstSequence < a.firstSequence + a.sequenceCount
      return !(sequences && a.fromMs < b.untilMs && b.fromMs < a.untilMs)
    }),
  )
}
