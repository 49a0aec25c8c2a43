import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { systemClock } from '#kernel/clock.ts'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import type { Context } from '#domain/context.ts'
import { ensurePartitions } from '#domain/feed/feed.partitions.ts'
import { recordRenditions, recordVerdict } from '#domain/photos/photos.gate.ts'
import { keysOfPhotoChange } from '#domain/photos/photos.keys.ts'
import { createPhoto } from '#domain/photos/photos.queries.ts'
import { parseCaption } from '#domain/photos/photos.rules.ts'
import { bringFact } from '#domain/photos/photos.work.ts'
import { writeThrough } from '#domain/write-through.ts'
import { createLogger } from '#platform/logger/logger.ts'
import type { Cache } from '#platform/memcached/cache.ts'
import { createInvalidations } from '#platform/memcached/invalidations.ts'
import { backfillFeed } from '../../../services/fanout-worker/backfill-feed.ts'
import { fanOutPhoto } from '../../../services/fanout-worker/fan-out-photo.ts'
import { createTestDatabase } from '../../support/database.ts'
import { openTestCache, startTestMemcached, talk, type CacheCounts, type TestMemcached } from '../../support/memcached.ts'
import { delivery, followBody, photoBody } from '../feed/feed-world.ts'
import { startWeb, type Answer, type Person, type TestWeb } from '../web/web-app.ts'

/** A web service with the cache on. */
export interface CachedWeb extends TestWeb {
  readonly cache: Cache
  readonly counts: CacheCounts
}

/** Two web services with the cache, and one that reads without it: three processes of one Monogram. */
export interface CachedWebs {
  readonly here: CachedWeb
  readonly there: CachedWeb
  /** Reads PostgreSQL. It must not write, since it would not tell the cache. */
  readonly plain: TestWeb
  readonly memcached: TestMemcached
  /** Makes the cache empty. */
  readonly flush: () => Promise<void>
}

export interface CachedWebsOptions {
  /** Gives the cache that the first service works with, in place of the one that it is given. */
  readonly wrap?: (cache: Cache) => Cache
}

export const RENDITIONS = (['thumb', 'small', 'medium', 'large'] as const).map((name, index) => ({
  name,
  key: `media/1/0123456789abcdef0123456789abcdef/${name}.jpg`,
  width: 150 * (index + 1),
  height: 100 * (index + 1),
  format: 'jpeg' as const,
}))

/** Starts them on one database and one memcached. */
export async function startCachedWebs(t: Test, { wrap = (cache) => cache }: CachedWebsOptions = {}): Promise<CachedWebs> {
  const { url: databaseUrl } = await createTestDatabase(t)
  const memcached = await startTestMemcached(t)
  const startMs = Date.now()
  const env = { SECRET_KEY: randomBytes(32).toString('hex') }
  const log = createLogger({ process: 'test', level: 'silent' })

  async function startCached(over: (cache: Cache) => Cache): Promise<CachedWeb> {
    // Its time stands still, so that no window of a rate limit turns during a test.
    const opened = openTestCache(t, [memcached.server], { clock: { ...systemClock, nowMs: () => startMs } })
    const cache = over(opened.cache)
    const invalidations = createInvalidations(cache, log)
    const web = await startWeb(t, { databaseUrl, env, overrides: { cache, invalidations } })
    t.teardown(() => invalidations.idle())
    return { ...web, cache, counts: opened.counts }
  }

  const here = await startCached(wrap)
  const there = await startCached((cache) => cache)
  const plain = await startWeb(t, { databaseUrl, env })
  await ensurePartitions(plain.context.router.directory.primary, Date.now())
  return {
    here,
    there,
    plain,
    memcached,
    async flush() {
      await talk(memcached.port, 'flush_all', /OK/)
    },
  }
}

/** Makes a photo that waits for its two facts, as an upload does. */
export async function upload(context: Context, owner: Person, caption = ''): Promise<Id> {
  const accountId = BigInt(owner.id) as Id
  const id = await context.ids.mint(shardOf(accountId))
  await makePhoto(context, owner, id, caption)
  return id
}

/** The same, with an id that was minted before. */
export async function makePhoto(context: Context, owner: Person, id: Id, caption = ''): Promise<void> {
  await writeThrough(context, shardOf(id), (trx, stale) => {
    stale(keysOfPhotoChange(id))
    return createPhoto(trx, {
      id,
      accountId: BigInt(owner.id) as Id,
      caption: parseCaption(caption),
      originalKey: `originals/${id}/x/original`,
      originalBytes: 1,
      mediaType: 'image/jpeg',
    })
  })
}

/** Brings both facts, as the two workers do; the photo is then published, or held for review. */
export async function pass(context: Context, owner: Person, id: Id, verdict: 'clean' | 'review' = 'clean'): Promise<void> {
  const photo = { id, account_id: BigInt(owner.id) as Id }
  const facts = { width: 600, height: 400, blurhash: 'LEHV6nWB2yk8pyo0adR*.7kCMdnj', takenAt: null, renditions: RENDITIONS }
  await bringFact(context, photo, (trx, publishedId) => recordRenditions(trx, id, facts, publishedId))
  await bringFact(context, photo, (trx, publishedId) => recordVerdict(trx, id, { verdict, detail: {} }, publishedId))
}

/** A published photo that stands in its followers' feeds. */
export async function publish(context: Context, owner: Person, caption = ''): Promise<Id> {
  const id = await upload(context, owner, caption)
  await pass(context, owner, id)
  await fanOutPhoto(context).handle(photoBody(id), delivery())
  return id
}

/** Ends the backfill of a follow, as the fan-out worker does. */
export async function backfill(context: Context, follower: Person, followee: Person): Promise<void> {
  await backfillFeed(context).handle(followBody(BigInt(follower.id) as Id, BigInt(followee.id) as Id), delivery())
}

/** The ids in a list that was answered. */
export function idsOf({ body }: Answer): string[] {
  return body.items?.map((item) => String(item.id)) ?? []
}

/** What of an answer a client sees: not its request id nor the time. */
export function essence({ status, headers, text }: Answer): object {
  const names = ['content-type', 'content-length', 'etag', 'link', 'cache-control', 'vary']
  return { status, text, headers: Object.fromEntries(names.map((name) => [name, headers[name]])) }
}
