import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startTestMemcached } from '../support/memcached.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { startTestTier } from '../support/tier.ts'
import { cacheWatch, sumMetric } from '../support/web-metrics.ts'

/**
 * Row 10 of the faults: a replica stands still for ten seconds. An author who goes on writing reads every write at once;
 * anybody else does too, as what the cache is filled with comes from the primary. The replica is left alone meanwhile.
 */
const PAUSE_MS = 10_000
const PACE_MS = 100
const WEBS = 2
const METRICS_TOKEN = 'metrics'
/** Of the edits: an answer of a cache server that failed meanwhile tells nothing of replicas. */
const COUNTED_SHARE_MIN = 0.5

t.test('a replica is paused', async (t) => {
  const tier = await startTestTier(t, { replicasOfEach: 1 })
  const [replica] = tier.nodes[0]?.replicas ?? []
  if (replica === undefined) throw new Error('there is one')
  const memcached = await startTestMemcached(t)
  const monogram = await startMonogram(t, {
    tier,
    counts: { web: WEBS },
    env: { METRICS_TOKEN, CACHE_ATTACH_SECONDS: '0', MEMCACHE_SERVERS: memcached.server.name },
  })
  const { urls } = monogram
  const metric = (name: string, labels?: Record<string, string>): Promise<number> => sumMetric(urls, METRICS_TOKEN, name, labels)
  const inRotation = (): Promise<number> => metric('monogram_replica_in_rotation')
  const readOnReplica = (): Promise<number> => metric('monogram_replica_reads_total', { target: 'replica' })
  // Processes in turn: what one writes, the other reads.
  const api = apiClient(urls)
  const [author, reader] = [await api.signUp('author'), await api.signUp('reader')]
  await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  const photos = [await api.upload(author, picture)]
  const path = `/v1/photos/${photos[0]?.id}`
  await eventually('publication', async () => ((await api.ok<Photo>('GET', path, author)).status === 'published' ? true : undefined))
  await eventually('the author is served by the replica', async () => {
    const before = await readOnReplica()
    await api.ok('GET', '/v1/me', author)
    return (await readOnReplica()) > before ? true : undefined
  })

  await replica.pauseReplay()
  const pausedMs = performance.now()
  const cache = cacheWatch(urls, METRICS_TOKEN)
  const stale: string[] = []
  let [edits, counted] = [0, 0]
  while (performance.now() - pausedMs < PAUSE_MS || (await inRotation()) > 0) {
    const caption = `edit ${++edits}`
    // Only a failure during this very edit excuses what it shows.
    await cache.hasFailed()
    await api.ok('PATCH', path, { token: author.token, json: { caption } })
    const seenNow: string[] = []
    // Whoever comes first fills the cache for all.
    const looks = edits % 2 === 0 ? [author, undefined] : [undefined, author]
    for (const who of looks) {
      const seen = await api.ok<Photo>('GET', path, who === undefined ? {} : { token: who.token })
      if (seen.caption !== caption) seenNow.push(`${who === undefined ? 'anybody' : 'the author'} saw ${seen.caption} after ${caption}`)
    }
    await api.ok('PATCH', '/v1/me', { token: author.token, json: { displayName: caption } })
    const me = await api.ok<{ displayName: string }>('GET', '/v1/me', author)
    if (me.displayName !== caption) seenNow.push(`the author's own name was ${me.displayName} after ${caption}`)
    if (seenNow.length === 0 || !(await cache.hasFailed())) {
      stale.push(...seenNow)
      counted++
    }
    await wait(PACE_MS)
  }
  t.same(stale, [], `everybody saw each of ${edits} edits`)
  t.ok(counted >= edits * COUNTED_SHARE_MIN, `${counted} of ${edits} edits counted`)
  photos.push(await api.upload(author, picture))
  const ready = await api.call<{ components: { name: string; status: string }[] }>('GET', '/readyz')
  t.equal(ready.status, 200)
  t.same(ready.body.components.find(({ name }) => name === replica.name)?.status, 'degraded')

  await replica.resumeReplay()
  await eventually('the replica is read again', async () => ((await inRotation()) === WEBS ? true : undefined))
  const before = await readOnReplica()
  await eventually('the author is served by it', async () => {
    await api.ok('GET', '/v1/me', author)
    return (await readOnReplica()) > before ? true : undefined
  })
  await assertInvariants(t, monogram, openDatabase(t, monogram.databaseUrl), { photos: photos.map(({ id }) => id) })
})
