import type { Test } from 'tap'
import { findCorners, UPRIGHT_CORNERS } from '../../scripts/pictures/corners.ts'
import { makePicture, type PictureOptions } from '../../scripts/pictures/make-picture.ts'
import { openImage } from '#platform/images/open-image.ts'
import { apiClient, type Account, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram, type Monogram, type MonogramOptions, type Stack } from '../support/monogram.ts'
import { openDatabase, openNodes } from '../support/open-database.ts'
import { startTestTier, type TierOptions } from '../support/tier.ts'
import { sumMetric } from '../support/web-metrics.ts'

export interface Setup {
  stack: Stack
  /** The database servers; one database when not said. */
  tier?: TierOptions
  people: number
  /** A multiple of `people`. */
  photos: number
  /** Two of every process type when not said. */
  counts?: MonogramOptions['counts']
  /** What else every process is told. */
  env?: Record<string, string>
}

const TWO_OF_EACH = { 'web': 2, 'fanout-worker': 2, 'thumbnail-worker': 2, 'safety-worker': 2, 'id-allocator': 2 }
const PAGE = 7
const METRICS_TOKEN = 'the-metrics-token'
const TAKEN_AT = new Date('2026-03-04T05:06:07Z')
const SIDES = { thumb: 150, small: 320, medium: 640, large: 1080 } as const

const follows = (reader: number, author: number): boolean => reader !== author && (reader * 7 + author * 3) % 5 < 2

/** Every EXIF orientation as JPEG, then PNG with alpha, WebP and AVIF in turn. */
function pictureOptions(index: number): PictureOptions {
  const base = { seed: index, width: 640 + index * 20, height: 480, corners: true, takenAt: TAKEN_AT }
  const gps = { latitude: 48.2, longitude: -16.37 }
  if (index < 16) return { ...base, format: 'jpeg', orientation: (index % 8) + 1, gps }
  const kinds = [
    { format: 'png', alpha: true },
    { format: 'webp' },
    { format: 'avif' },
    { format: 'jpeg', profile: 'p3', gps },
  ] as const
  return { ...base, ...(kinds[index % 4] ?? {}) }
}

/**
 * The main job of the product, over HTTP only: people sign up and follow, pictures of every kind are uploaded, rendered,
 * screened and published, and stand in exactly the right feeds. The same whatever stands behind it. At last a look at what HTTP does not
 * show: that nothing is left over, or lies where it should not, on any node.
 */
export async function uploadToFeed(t: Test, setup: Setup): Promise<void> {
  const { stack, people: peopleCount, photos: photoCount, counts = TWO_OF_EACH, env } = setup
  const tier = setup.tier && (await startTestTier(t, setup.tier))
  const processes = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const monogram = await startMonogram(t, {
    stack,
    counts,
    ...(tier !== undefined && { tier }),
    env: { DATABASE_PROCESSES: String(processes), METRICS_TOKEN, ...env },
  })
  const api = apiClient(monogram.urls)

  const people: Person[] = []
  for (let i = 0; i < peopleCount; i++) people.push(await api.signUp(`person_${i}`))
  await Promise.all(
    people.map(async (reader, r) => {
      for (const [a, author] of people.entries()) {
        if (follows(r, a)) await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
      }
    }),
  )

  const uploads = await uploadAll(api, people, photoCount)
  const photos = await Promise.all(uploads.map((upload) => published(api, upload)))
  const left = new Set(ids(photos))

  await t.test('every photo shows its own pictures, upright, without metadata', async (t) => {
    for (const [index, photo] of photos.entries()) await checkPhoto(t, api, photo, pictureOptions(index))
  })

  await t.test('every published photo is in exactly the right feeds, once, newest first', async (t) => {
    for (const [r, reader] of people.entries()) {
      const expected = photos.filter((_, index) => follows(r, index % people.length))
      const feed = await eventually(`the feed of person_${r}`, async () => {
        const found = await api.all<Photo>('/v1/feed', { token: reader.token, limit: PAGE })
        return found.length === expected.length ? found : undefined
      })
      t.same(ids(feed).toSorted(), ids(expected).toSorted(), `person_${r}`)
      const times = feed.map(({ publishedAt }) => publishedAt ?? '')
      t.same(times, times.toSorted().toReversed(), 'newest first')
    }
  })

  await t.test('counts and lists agree with what was done', async (t) => {
    for (const [i, person] of people.entries()) {
      const account = await api.ok<Account>('GET', `/v1/accounts/${person.account.id}`)
      const followers = people.filter((_, reader) => follows(reader, i)).length
      const following = people.filter((_, author) => follows(i, author)).length
      t.same(
        [account.photoCount, account.followerCount, account.followingCount],
        [photos.length / people.length, followers, following],
        account.username,
      )
      const listed = await api.all<Account>(`/v1/accounts/${person.account.id}/followers`, { limit: PAGE })
      t.equal(new Set(listed.map(({ id }) => id)).size, followers)
    }
  })

  await t.test('follow, unfollow and delete show at once', async (t) => {
    const reader = await api.signUp('newcomer')
    const author = people[3] as Person
    const theirs = ids(newestFirst(photos.filter((_, index) => index % people.length === 3)))
    const feed = async (): Promise<string[]> => ids(await api.all<Photo>('/v1/feed', { token: reader.token }))

    t.same(await feed(), [])
    await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
    t.same(await feed(), theirs, 'a new follow shows the author’s photos at once')

    const [gone, ...kept] = theirs
    const deleted = photos.find(({ id }) => id === gone) as Photo
    left.delete(deleted.id)
    t.equal((await api.call('DELETE', `/v1/photos/${deleted.id}`, { token: author.token })).status, 204)
    t.same(await feed(), kept, 'a deleted photo is gone at once')
    t.equal((await api.call('GET', `/v1/photos/${deleted.id}`)).status, 404)
    t.equal((await api.call('DELETE', `/v1/photos/${deleted.id}`, { token: author.token })).status, 404)
    for (const { url } of deleted.renditions) t.equal((await api.bytes(url)).status, 404, 'and so are its pictures')

    await api.ok('DELETE', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
    t.same(await feed(), [], 'an unfollowed author is gone at once')
    await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
    t.same(await feed(), kept, 'and back at once')
  })

  if ((setup.tier?.replicasOfEach ?? 0) > 0) await t.test('whoever is signed in reads from replicas', (t) => readReplicas(t, monogram, api, people))
  const where = tier === undefined ? openDatabase(t, monogram.databaseUrl) : openNodes(t, tier)
  await assertInvariants(t, monogram, where, { photos: [...left] })
}

async function readReplicas(t: Test, { urls }: Monogram, api: ApiClient, people: readonly Person[]): Promise<void> {
  const onReplicas = (): Promise<number> => sumMetric(urls, METRICS_TOKEN, 'monogram_replica_reads_total', { target: 'replica' })
  const before = await onReplicas()
  // Whose marker is not there yet is read for on the primary, which then writes one.
  const read = await eventually('every profile, as its neighbour sees it, from a replica', async () => {
    for (const [i, { account }] of people.entries()) {
      await api.ok('GET', `/v1/accounts/${account.id}`, { token: (people[(i + 1) % people.length] as Person).token })
    }
    const since = (await onReplicas()) - before
    return since >= people.length ? since : undefined
  })
  t.ok(read >= people.length, `${read} reads`)
}

function uploadAll(api: ApiClient, people: readonly Person[], count: number): Promise<{ photo: Photo; owner: Person }[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const owner = people[index % people.length] as Person
      const picture = await makePicture(pictureOptions(index))
      return { photo: await api.upload(owner, picture, { caption: `Picture ${index} #monogram` }), owner }
    }),
  )
}

async function published(api: ApiClient, upload: { photo: Photo; owner: Person }): Promise<Photo> {
  const path = `/v1/photos/${upload.photo.id}`
  return eventually(`publication of ${upload.photo.caption}`, async () => {
    const photo = await api.ok<Photo>('GET', path, { token: upload.owner.token })
    if (photo.status !== 'processing' && photo.status !== 'published') {
      throw new Error(`${photo.caption} ended ${photo.status}: ${JSON.stringify(photo.failure)}`)
    }
    return photo.status === 'published' ? photo : undefined
  })
}

async function checkPhoto(t: Test, api: ApiClient, photo: Photo, made: PictureOptions): Promise<void> {
  t.same([photo.width, photo.height], [made.width, made.height], `${photo.caption} has its upright size`)
  t.match(photo.blurhash, /^.{20,}$/)
  t.same(photo.renditions.map(({ name }) => name), Object.keys(SIDES))
  for (const rendition of photo.renditions) {
    const { status, headers, body } = await api.bytes(rendition.url)
    t.equal(status, 200)
    const fromBucket = headers.has('location')
    t.match(headers.get('cache-control'), fromBucket ? /^private, max-age=\d+$/ : /^public, max-age=31536000, immutable$/)
    t.equal(headers.get('x-content-type-options'), 'nosniff')
    const format = made.alpha === true ? 'webp' : 'jpeg'
    if (!fromBucket) t.equal(headers.get('content-type'), `image/${format}`)
    const metadata = await openImage(body).metadata()
    t.match(metadata, { width: rendition.width, height: rendition.height, format, exif: undefined, xmp: undefined })
    const scale = Math.min(1, SIDES[rendition.name as keyof typeof SIDES] / Math.max(made.width, made.height))
    t.ok(Math.abs(rendition.width - made.width * scale) <= 1 && Math.abs(rendition.height - made.height * scale) <= 1)
    t.same(await findCorners(body), UPRIGHT_CORNERS, `${photo.caption}, ${rendition.name}, is upright`)
  }
}

function newestFirst(photos: readonly Photo[]): Photo[] {
  return photos.toSorted((a, b) => (b.publishedAt ?? '').localeCompare(a.publishedAt ?? ''))
}

function ids(photos: readonly Photo[]): string[] {
  return photos.map(({ id }) => id)
}
