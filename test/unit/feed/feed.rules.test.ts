import fc from 'fast-check'
import t from 'tap'
import { EPOCH_MS, firstIdAt, type Id } from '#kernel/snowflake.ts'
import {
  FEED_RETENTION_DAYS,
  isShown,
  mergeEntries,
  partitionFloor,
  retentionFloor,
  storageFloor,
  type FeedEntry,
} from '#domain/feed/feed.rules.ts'

const DAY_MS = 86_400_000
const NOW_MS = Date.UTC(2026, 10, 15, 12)

const entry = fc.bigInt({ min: 1n, max: 40n }).map((id): FeedEntry => ({ publishedId: id as Id, photoId: (id * 10n) as Id }))

t.test('floors: a reader relies on less than writers write, and partitions outlive both', async (t) => {
  t.equal(retentionFloor(NOW_MS), firstIdAt(NOW_MS - FEED_RETENTION_DAYS * DAY_MS))
  t.ok(storageFloor(NOW_MS) < retentionFloor(NOW_MS))
  t.ok(partitionFloor(NOW_MS) < storageFloor(NOW_MS))
  t.equal(retentionFloor(EPOCH_MS), 0n, 'never before the first id')
})

t.test('a merge is what sorting everything would give', async () => {
  const newest = (entries: readonly FeedEntry[], limit: number): bigint[] =>
    [...new Set(entries.map(({ publishedId }) => publishedId as bigint))].sort((a, b) => (a > b ? -1 : 1)).slice(0, limit)
  fc.assert(
    fc.property(fc.array(fc.array(entry)), fc.integer({ min: 1, max: 20 }), (sources, limit) => {
      const lists = sources.map((source) => newest(source, limit).map((id) => ({ publishedId: id as Id, photoId: (id * 10n) as Id })))
      const merged = mergeEntries(lists, limit)
      return merged.map(({ publishedId }) => publishedId).join() === newest(sources.flat(), limit).join()
    }),
    { seed: 2026 },
  )
})

t.test('an entry shows a published photo at its own place, of an author who is followed', async (t) => {
  const [author, place] = [5n as Id, 7n as Id]
  const photo = { accountId: author, publishedId: place }
  const here: FeedEntry = { publishedId: place, photoId: 70n as Id }
  t.ok(isShown(here, photo, new Set([author])))
  t.notOk(isShown(here, photo, new Set()))
  t.notOk(isShown(here, undefined, new Set([author])))
  t.notOk(isShown(here, { ...photo, publishedId: 8n as Id }, new Set([author])))
})
