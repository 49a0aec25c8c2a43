import { randomBytes } from 'node:crypto'
import t from 'tap'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import type { Invalidations } from '#platform/memcached/invalidations.ts'
import { apiClient, PASSWORD, uploadForm, type Account, type Answer, type Person, type Photo } from '../../support/api-client.ts'
import { eventually } from '../../support/eventually.ts'
import { startTestTier } from '../../support/tier.ts'
import { startWeb } from './web-app.ts'

/** Writes that say nothing of themselves, as they were told before or by a process without replicas, are still read by their own. */

const TOKEN = 'consistency-token'

t.test('own writes are read whoever answered them', async (t) => {
  const tier = await startTestTier(t, { replicasOfEach: 1 })
  const [node] = tier.nodes
  const [replica] = node?.replicas ?? []
  if (node === undefined || replica === undefined) throw new Error('there is a replica')
  const picture = await makePicture({ seed: 1, width: 64, height: 48 })
  const env = { ...tier.env, SECRET_KEY: randomBytes(32).toString('hex'), REPLICA_LAG_SECONDS_MAX: '3600' }

  /** Keys that were made stale, as a cache would be told. */
  const stale: string[] = []
  const invalidations: Invalidations = {
    async record(_trx, keys) {
      stale.push(...keys)
    },
    complete: () => Promise.resolve(),
    idle: () => Promise.resolve(),
  }
  const open = async (more: Record<string, string> = {}) => {
    const web = await startWeb(t, { env: { ...env, ...more }, overrides: { invalidations } })
    return { web, api: apiClient([await web.app.listen({ port: 0, host: '127.0.0.1' })]) }
  }
  const { web, api } = await open()
  const set = web.context.router.directory.replicas

  /** Signs somebody up whose first token the replica, which then stands still, is far enough for. */
  const enter = async (username: string) => {
    const { body, headers } = await api.call<Person>('POST', '/v1/accounts', { json: { username, password: PASSWORD } })
    const token = headers.get(TOKEN) ?? ''
    await replica.caughtUp()
    const { lsn } = (await node.primary.sql<{ lsn: string }>(`select (pg_current_wal_flush_lsn() - '0/0')::text as lsn`))[0] ?? { lsn: '' }
    await replica.caughtUp()
    await eventually('that is known', () => Promise.resolve(set?.choose({ scope: 'whole node', lsn: BigInt(lsn) }) === undefined ? undefined : true))
    await replica.pauseReplay()
    return { id: body.account.id, token: body.token, headers: { [TOKEN]: token } }
  }
  const ended = (answer: Answer<unknown>): string => {
    const token = answer.headers.get(TOKEN)
    if (token === null) throw new Error(`the answer ${answer.status} has a token`)
    return token
  }

  await t.test('a kept answer covers what the first try wrote', async (t) => {
    const who = await enter('ada')
    const upload = () => api.call<Photo>('POST', '/v1/photos', {
      token: who.token,
      form: uploadForm(picture),
      headers: { ...who.headers, 'idempotency-key': 'once' },
    })
    // The answer is lost, and with it the token.
    const { body: photo } = await upload()
    await eventually('the old token opens the replica', async () =>
      (await api.call('GET', `/v1/photos/${photo.id}`, who)).status === 404 ? true : undefined)
    stale.length = 0
    const again = await upload()
    t.same(stale.sort(), [`marker:${who.id}`, `photo:${photo.id}`], 'the first try may have died before it told the cache')
    t.match(again, { status: 202, body: { id: photo.id } })
    const read = await api.call<Photo>('GET', `/v1/photos/${photo.id}`, { ...who, headers: { [TOKEN]: ended(again) } })
    t.match(read, { status: 200, body: { id: photo.id } })
    await replica.resumeReplay()
  })

  await t.test('a process without replicas takes away a token that would open them before its write', async (t) => {
    const who = await enter('bela')
    const other = await open({ DATABASE_URL_REPLICAS: '' })
    t.equal(other.web.context.router.hasReplicas, false)
    const written = await other.api.call<Account>('PATCH', '/v1/me', { ...who, json: { displayName: 'Béla' } })
    t.equal(written.status, 200)
    await eventually('the old token opens the replica', async () =>
      (await api.ok<Account>('GET', '/v1/me', who)).displayName === 'bela' ? true : undefined)
    const next = { ...who, headers: { [TOKEN]: ended(written) } }
    const seen = await api.call<Account>('GET', '/v1/me', next)
    t.equal(seen.body.displayName, 'Béla')
    t.type(ended(seen), 'string', 'and it gives another')
    const { headers } = await other.api.call('PATCH', '/v1/me', { token: who.token, json: { displayName: 'B' } })
    t.equal(headers.get(TOKEN), null, 'who brings none gets none there')
    await replica.resumeReplay()
  })
})
