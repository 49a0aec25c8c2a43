import t from 'tap'
import { shardOf } from '#kernel/snowflake.ts'
import { openIdSource } from '#platform/id-lease/holder.ts'
import { createLedger } from '#platform/id-lease/ledger.ts'
import { readOccupancy } from '#platform/id-lease/house-keeping.ts'
import { openLedger, silent } from './ledger-at.ts'

const IDS_PER_HOLDER = 20_000
const SHARDS = 40

t.test('processes with lanes of several widths mint at once, restart, and never repeat an id', async (t) => {
  const { db } = await openLedger(t)
  const ledger = createLedger(db)
  const ids = new BigUint64Array(2 * 4 * IDS_PER_HOLDER)
  let minted = 0
  let routed = true
  for (let life = 0; life < 2; life++) {
    await Promise.all([8, 8, 64, 3].map(async (laneWidth, i) => {
      const source = openIdSource({ source: ledger, holder: `process-${i}`, laneWidth, log: silent })
      t.teardown(() => source.close())
      const first = minted
      minted += IDS_PER_HOLDER
      for (let at = 0; at < IDS_PER_HOLDER; at += SHARDS * 10) {
        await Promise.all(Array.from({ length: Math.min(SHARDS * 10, IDS_PER_HOLDER - at) }, async (_, j) => {
          const id = await source.mint(j % SHARDS)
          routed &&= shardOf(id) === j % SHARDS
          ids[first + at + j] = id
        }))
      }
      await source.close()
    }))
  }
  ids.sort()
  t.equal(ids.filter((id, i) => i > 0 && id === ids[i - 1]).length, 0)
  t.ok(ids[0] !== 0n && routed)
  t.equal((await readOccupancy(db, 8)).leases, 0, 'a clean exit gives the rest back')
})

t.test('without a directory there are no ids, and a clear refusal', async (t) => {
  const { db } = await openLedger(t)
  const broken = createLedger(db, {
    get nowMs(): never {
      throw new Error('the directory is down')
    },
    get timeline(): never {
      throw new Error('the directory is down')
    },
  })
  const source = openIdSource({ source: broken, holder: 'test', laneWidth: 8, log: silent })
  await t.rejects(source.mint(1), { code: 'ids_unavailable', status: 503 })
  await source.close()
})
