import t from 'tap'
import type { Test } from 'tap'
import { unpackId } from '#kernel/snowflake.ts'
import type { Id } from '#kernel/snowflake.ts'
import { openIdSource } from '#platform/id-lease/holder.ts'
import type { IdSource } from '#platform/id-lease/holder.ts'
import type { LeaseSource } from '#platform/id-lease/lease-source.ts'
import { currentTrace, NO_TRACE, withTrace, type Trace } from '#platform/logger/trace.ts'
import { LEASE_MS, toldSource } from './told-source.ts'
import type { ToldSource } from './told-source.ts'
import { virtualTime } from './virtual-time.ts'
import type { VirtualTime } from './virtual-time.ts'

const START_MS = Date.UTC(2026, 10, 22)
const quiet = { info: () => undefined, warn: () => undefined }

interface Holding {
  readonly time: VirtualTime
  readonly source: ToldSource
  readonly ids: IdSource
}

function hold(t: Test, told: Partial<ToldSource> = {}, laneWidth = 8): Holding {
  const time = virtualTime(START_MS)
  const source = Object.assign(toldSource(time, START_MS), told)
  const ids = openIdSource({ source, holder: 'test', laneWidth, log: quiet, clock: time.clock, sleep: time.sleep })
  t.teardown(() => ids.close())
  return { time, source, ids }
}

/** Milliseconds after the start, and sequence number. */
function place(id: Id): [ms: number, sequence: number] {
  const { ms, sequence } = unpackId(id)
  return [ms - START_MS, sequence]
}

interface Refusal {
  code: string
  status: number
  retryAfterSeconds: number
}

const refusal = (retryAfterSeconds: number): Refusal => ({ code: 'ids_unavailable', status: 503, retryAfterSeconds })

t.test('the first ids wait for the first lease; later ones need nobody', async (t) => {
  const { time, source, ids } = hold(t)
  t.same((await Promise.all([ids.mint(1), ids.mint(1), ids.mint(2)])).map(place), [[0, 0], [0, 1], [0, 0]])
  await time.pass(20)
  source.down = true
  t.same(place(await ids.mint(1)), [20, 0])
  t.same(source.calls, ['grant'])
})

t.test('the lease is kept in nobody’s name, whoever was the first to mint', async (t) => {
  const time = virtualTime(START_MS)
  const traces: Trace[] = []
  const told = toldSource(time, START_MS)
  const source: LeaseSource = {
    grant(request) {
      traces.push(currentTrace())
      return told.grant(request)
    },
    renew(leaseId) {
      traces.push(currentTrace())
      return told.renew(leaseId)
    },
    release: (leaseId, usedUntilMs) => told.release(leaseId, usedUntilMs),
  }
  const ids = openIdSource({ source, holder: 'test', laneWidth: 8, log: quiet, clock: time.clock, sleep: time.sleep })
  t.teardown(() => ids.close())
  await withTrace({ requestId: 'first', jobId: null, cost: { statements: 0 } }, () => ids.mint(1))
  await time.pass(LEASE_MS * 0.6)
  t.same(told.calls, ['grant', 'renew'])
  t.same(traces, [NO_TRACE, NO_TRACE])
})

t.test('time is the ledger\'s time plus monotonic time: the wall clock may do as it likes', async (t) => {
  const { time, ids } = hold(t, { offMs: 700 })
  t.same(place(await ids.mint(1)), [700, 0])
  for (const step of [-5_000, 3_600_000]) {
    time.clock.step(step)
    await time.pass(1)
    await ids.mint(1)
  }
  t.same(place(await ids.mint(1)), [702, 1])
})

t.test('a lease is renewed at half-life and never ends', async (t) => {
  const { time, source, ids } = hold(t)
  for (let i = 0; i < 10; i++) {
    t.same(place(await ids.mint(1)), [i * LEASE_MS, 0])
    await time.pass(LEASE_MS)
  }
  t.equal(source.calls.filter((call) => call === 'grant').length, 1)
  t.equal(source.calls.filter((call) => call === 'renew').length, 20)
})

t.test('a full lane waits for the next millisecond, in order', async (t) => {
  const { time, ids } = hold(t, {}, 2)
  const minted = Promise.all(Array.from({ length: 5 }, () => ids.mint(1)))
  await time.pass(3)
  t.same((await minted).map(place), [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]])
})

t.test('a caller waits one second at most', async (t) => {
  const { time, ids } = hold(t, {}, 1)
  const minted = Array.from({ length: 1_100 }, () => ids.mint(1))
  const outcomes = Promise.allSettled(minted)
  await time.pass(1_200)
  const refused = (await outcomes).filter((outcome) => outcome.status === 'rejected')
  t.ok(refused.length > 0 && refused.length <= 100)
  t.match(refused[0]?.reason, refusal(1))
})

t.test('while the source is down the lease at hand serves to its end; then callers are refused at once', async (t) => {
  const { time, source, ids } = hold(t)
  await ids.mint(1)
  source.down = true
  await time.pass(LEASE_MS - 1)
  t.same(place(await ids.mint(1)), [LEASE_MS - 1, 0])
  await time.pass(1)
  await t.rejects(ids.mint(1), refusal(1))
  source.down = false
  await time.pass(1_000)
  t.same(place(await ids.mint(1)), [LEASE_MS + 1_000, 8], 'a new lane, as soon as the source answers')
})

t.test('a holder that was paused past the end of its lease takes a new one, and refuses if it cannot', async (t) => {
  const { time, source, ids } = hold(t)
  await ids.mint(1)
  time.clock.advance(3_600_000)
  t.same(place(await ids.mint(1)), [3_600_000, 8])
  time.clock.advance(3_600_000)
  source.down = true
  await t.rejects(ids.mint(1), refusal(1))
})

t.test('no free lane is told with the time until one is', async (t) => {
  const { time, source, ids } = hold(t, { full: true })
  await time.pass(1)
  await t.rejects(ids.mint(1), refusal(13))
  source.full = false
  await time.pass(1_000)
  t.ok(await ids.mint(1))
})

t.test('a renewal that is refused leads to a new lane', async (t) => {
  const { time, source, ids } = hold(t, { refusesRenewals: true })
  await ids.mint(1)
  await time.pass(LEASE_MS / 2)
  t.same(place(await ids.mint(1)), [LEASE_MS / 2, 8])
  t.same(source.calls, ['grant', 'renew', 'grant'])
})

t.test('after a failover the old lease serves until it ends, and the new one from its start', async (t) => {
  const { time, source, ids } = hold(t)
  await ids.mint(1)
  Object.assign(source, { refusesRenewals: true, delayMs: LEASE_MS })
  await time.pass(LEASE_MS / 2)
  await time.pass(LEASE_MS / 2 - 1)
  t.same(place(await ids.mint(1)), [LEASE_MS - 1, 0])
  await time.pass(1)
  await t.rejects(ids.mint(1), refusal(30))
  await time.pass(LEASE_MS / 2 - 500)
  const soon = ids.mint(1)
  await time.pass(500)
  t.same(place(await soon), [LEASE_MS * 1.5, 8], 'a start that is near is waited for')
})

t.test('the ledger\'s clock', async (t) => {
  t.test('a small step back is not followed: ids go on rising', async (t) => {
    const { time, source, ids } = hold(t)
    const before = await ids.mint(1)
    source.offMs = -5_000
    await time.pass(LEASE_MS / 2 + 1)
    const after = await ids.mint(1)
    t.ok(after > before)
    t.same(place(after), [LEASE_MS / 2 + 1, 0])
    t.same(source.calls, ['grant', 'renew'])
  })

  t.test('a step of an hour forward is followed at the renewal', async (t) => {
    const { time, source, ids } = hold(t)
    await ids.mint(1)
    source.offMs = 3_600_000
    await time.pass(LEASE_MS / 2)
    t.same(place(await ids.mint(1)), [LEASE_MS / 2 + 3_600_000, 0])
  })

  t.test('a step of an hour back is followed on a new lane', async (t) => {
    const { time, source, ids } = hold(t, { offMs: 3_600_000 })
    await ids.mint(1)
    source.offMs = 0
    await time.pass(LEASE_MS / 2)
    t.same(place(await ids.mint(1)), [LEASE_MS / 2, 8])
    t.same(source.calls, ['grant', 'renew', 'release lease-0 3600001', 'grant'])
  })
})

t.test('closing gives the rest back, and nothing is minted after', async (t) => {
  const { time, source, ids } = hold(t)
  await ids.mint(1)
  await time.pass(10)
  await ids.mint(1)
  await ids.close()
  t.same(source.calls, ['grant', 'release lease-0 11'])
  await t.rejects(ids.mint(1), refusal(1))
})

t.test('closing while the source is down, or while callers wait, ends', async (t) => {
  const { time, source, ids } = hold(t, {}, 1)
  await ids.mint(1)
  const waiting = ids.mint(1)
  source.down = true
  await ids.close()
  const refused = t.rejects(waiting, refusal(1))
  await time.pass(1)
  await refused
})

t.test('a source that does not answer is given up, and a grant that comes late is given back', async (t) => {
  const time = virtualTime(START_MS)
  const source = toldSource(time, START_MS)
  const answer = Promise.withResolvers<undefined>()
  const slow = { ...source, grant: async (...request: Parameters<typeof source.grant>) => {
    await answer.promise
    return source.grant(...request)
  } }
  const ids = openIdSource({ source: slow, holder: 'test', laneWidth: 8, log: quiet, clock: time.clock, sleep: time.sleep })
  const minted = t.rejects(ids.mint(1), refusal(1))
  await time.pass(5_000)
  await minted
  answer.resolve(undefined)
  await time.pass(1_000)
  t.ok(source.calls.includes('release lease-0 5000'))
  t.ok(await ids.mint(1))
  await ids.close()
})
