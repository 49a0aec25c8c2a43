import { sql } from 'kysely'
import t from 'tap'
import { apiClient, PASSWORD, type Person } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFaultProxy } from '../support/fault-proxy.ts'
import { insist } from '../support/insist.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { startTestTier } from '../support/tier.ts'
import type { TestStandby } from '../support/tier-server.ts'
import { assertOutcome, startLoad } from './people-load.ts'

/**
 * Row 8 of the faults: the primary is killed under load and its synchronous standby promoted. As on a host, the URL stays
 * and what is behind it moves, before the standby is promoted: so it is met while it only reads. The end comes at its worst,
 * with commits on the primary that the standby does not have. No process exits, writes are back within 30 s, nothing
 * acknowledged is lost.
 */
const WRITES_BEFORE = 24
const WRITES_AFTER = 24
/** Commits that only the primary has when it dies. */
const COMMITS_CUT_OFF = 2
const BACK_MS_MAX = 30_000
/** A worker that had minted no id before has to wait for its first lease until those of the old primary are over. */
const SETTLED_MS_MAX = 150_000

t.test('the primary is killed under load and its standby promoted', async (t) => {
  const tier = await startTestTier(t, { replicasOfEach: 1, synchronous: true })
  const [{ primary, replicas: [standby] } = { primary: undefined, replicas: [] }] = tier.nodes
  if (primary === undefined || standby === undefined) throw new Error('there is one of each')
  const proxy = await startFaultProxy(t, portOf(primary.url))
  const moving = new URL(primary.url)
  moving.port = String(proxy.port)
  const monogram = await startMonogram(t, { tier: { ...tier, env: { DATABASE_URL: moving.href } }, counts: { web: 2 } })
  const api = apiClient(monogram.urls)
  const load = await startLoad(api)
  await Promise.race([load.failed, eventually('some writes', () => Promise.resolve(load.written >= WRITES_BEFORE ? true : undefined))])

  // Who has never minted waits for a minute after the failover: of that the newcomer below tells.
  await eventually('a lane for each worker that mints', async () => {
    const lanes = await primary.sql(`select distinct split_part(holder, ' ', 1) from id_leases where holder ~ '^(safety|thumbnail)-worker '`)
    return lanes.length === 2 ? true : undefined
  })
  const json = { username: 'author_0', password: PASSWORD }
  const { token } = await insist<Person>(api, 'POST', '/v1/sessions', { json })
  await cutOff(standby)
  await eventually('commits that wait for the standby', async () => {
    const waiting = await primary.sql(`select 1 from pg_stat_activity where wait_event = 'SyncRep'`)
    return waiting.length >= COMMITS_CUT_OFF ? true : undefined
  })
  await primary.kill()
  const killedMs = performance.now()
  proxy.point(portOf(standby.url))
  for (const url of monogram.urls) {
    const answer = await eventually('an answer of the standby', async () => {
      const read = await apiClient([url]).call('GET', '/v1/me', { token })
      if (read.status !== 200) return undefined
      return apiClient([url]).call<{ code: string }>('PATCH', '/v1/me', { token, json: { bio: 'nowhere' } })
    })
    t.match(answer, { status: 503, body: { code: 'unavailable' } }, 'a server that only reads counts as one that is away')
  }
  await standby.promote()
  await Promise.all(monogram.urls.map(async (url) => {
    await insist(apiClient([url]), 'PATCH', '/v1/me', { token, json: { bio: url } })
  }))
  const backMs = performance.now() - killedMs
  t.ok(backMs < BACK_MS_MAX, `every web process writes again ${Math.round(backMs)} ms after the kill`)

  const before = load.written
  await Promise.race([load.failed, eventually('more writes', () => Promise.resolve(load.written >= before + WRITES_AFTER ? true : undefined))])
  const newcomer = await monogram.start('web')
  const refused = await apiClient([`http://127.0.0.1:${newcomer.port ?? 0}`]).call<{ code: string }>('POST', '/v1/accounts', {
    json: { username: 'newcomer', password: PASSWORD },
  })
  t.match(refused, { status: 503, body: { code: 'ids_unavailable' } }, 'a process that had no lease yet waits for those that may have been lost')
  t.match(refused.headers.get('retry-after'), /^[1-9]\d?$/)

  const outcome = await load.stop()
  const db = openDatabase(t, moving.href)
  await eventually('every photo at its end', async () => {
    const { rows } = await sql`select from photos where fanned_out_at is null`.execute(db)
    return rows.length === 0 ? true : undefined
  }, SETTLED_MS_MAX)
  await assertOutcome(t, { monogram, nodes: [{ name: primary.name, db }], api }, outcome)
})

/** From then on the standby gets nothing more of the log. */
async function cutOff(standby: TestStandby): Promise<void> {
  await standby.sql(`alter system set primary_conninfo = ''`)
  await standby.sql('select pg_reload_conf()')
  await eventually('the end of its stream', async () => {
    const receivers = await standby.sql('select 1 from pg_stat_wal_receiver')
    return receivers.length === 0 ? true : undefined
  })
}

function portOf(url: string): number {
  return Number(new URL(url).port)
}
