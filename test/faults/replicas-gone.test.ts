import t from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { startTestTier } from '../support/tier.ts'
import { sumMetric } from '../support/web-metrics.ts'

/**
 * Row 11 of the faults: all replicas go at once, under more reads than their primary is to carry. It takes over so many,
 * the others are told to come again; whoever writes, and reads what was written, does not notice.
 */
const READERS = 40
const DISPLACED_READS_MAX = 2
const SHED_SEEN = 200
const METRICS_TOKEN = 'metrics'

t.test('all replicas are killed under load', async (t) => {
  const tier = await startTestTier(t, { replicasOfEach: 2 })
  const replicas = tier.nodes[0]?.replicas ?? []
  const monogram = await startMonogram(t, {
    tier,
    counts: { web: 2 },
    env: { METRICS_TOKEN, REPLICA_DISPLACED_READS_MAX: String(DISPLACED_READS_MAX) },
  })
  const { urls } = monogram
  const inRotation = (): Promise<number> => sumMetric(urls, METRICS_TOKEN, 'monogram_replica_in_rotation')
  const readsOf = (target: string): Promise<number> => sumMetric(urls, METRICS_TOKEN, 'monogram_replica_reads_total', { target })
  const api = apiClient(urls)
  const author = await api.signUp('author')
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  const photos = [await api.upload(author, picture)]
  const published = async (photo: Photo | undefined): Promise<void> => {
    await eventually('publication', async () =>
      (await api.ok<Photo>('GET', `/v1/photos/${photo?.id}`, author)).status === 'published' ? true : undefined)
  }
  await published(photos[0])
  await eventually('replicas are read', async () => ((await inRotation()) === replicas.length * urls.length ? true : undefined))

  const answers = new Map<string, number>()
  let isStopping = false
  const readers = Array.from({ length: READERS }, async () => {
    const reader = apiClient(urls)
    while (!isStopping) {
      const { status, headers } = await reader.call('GET', `/v1/accounts/${author.account.id}/photos`)
      const answer = status === 503 ? `503, again after ${headers.get('retry-after')} s` : String(status)
      answers.set(answer, (answers.get(answer) ?? 0) + 1)
    }
  })
  const SHED = '503, again after 1 s'
  await eventually('replicas serve the readers', async () => ((await readsOf('replica')) > READERS * 10 ? true : undefined))
  t.same([...answers.keys()], ['200'])

  await Promise.all(replicas.map((replica) => replica.kill()))
  await eventually('some are told to come again', () => Promise.resolve((answers.get(SHED) ?? 0) > SHED_SEEN ? true : undefined))
  const served = answers.get('200') ?? 0
  for (let upload = 0; upload < 3; upload++) {
    const photo = await api.upload(author, picture)
    photos.push(photo)
    t.equal((await api.ok<Photo>('GET', `/v1/photos/${photo.id}`, author)).id, photo.id, 'the author reads its own write')
  }
  await published(photos.at(-1))
  await eventually('the primary serves others too', () => Promise.resolve((answers.get('200') ?? 0) > served ? true : undefined))
  t.equal((await api.call('GET', '/readyz')).status, 200)
  t.ok((await readsOf('displaced')) > 0)

  await Promise.all(replicas.map((replica) => replica.start()))
  await eventually('replicas are read again', async () => ((await inRotation()) === replicas.length * urls.length ? true : undefined))
  const shed = await readsOf('shed')
  const before = await readsOf('replica')
  await eventually('they serve the readers', async () => ((await readsOf('replica')) > before + READERS * 10 ? true : undefined))
  t.equal(await readsOf('shed'), shed, 'and nobody is sent away')
  isStopping = true
  await Promise.all(readers)
  t.same([...answers.keys()].sort(), ['200', SHED], 'nothing else was answered at any time')
  t.comment(Object.fromEntries(answers))
  await assertInvariants(t, monogram, openDatabase(t, monogram.databaseUrl), { photos: photos.map(({ id }) => id) })
})
