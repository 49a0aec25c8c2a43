import { sql } from 'kysely'
import t from 'tap'
import { packId, shardOf, type Id } from '#kernel/snowflake.ts'
import type { AppRouter, Trx } from '#domain/database.ts'
import {
  PROCESSING_FAILED,
  recordFailure,
  recordRenditions,
  recordVerdict,
  type RenditionFacts,
} from '#domain/photos/photos.gate.ts'
import { createPhoto, deletePhoto, findPhoto } from '#domain/photos/photos.queries.ts'
import type { PhotoStatus, Verdict } from '#domain/photos/photos.table.ts'
import { readCounts } from '#domain/counters/counters.queries.ts'
import { noCache } from '#platform/memcached/cache.ts'
import { createInvalidations } from '#platform/memcached/invalidations.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openTestRouter } from '../../support/router.ts'

/**
 * The gate: whatever comes first, however often, at once or after a crash, a photo ends once, as the stronger of
 * its outcomes says, and only a published one is announced.
 */
const BROKEN = { code: 'truncated', detail: 'The file ends before the picture is complete.' }
const FACTS: RenditionFacts = {
  width: 640,
  height: 480,
  blurhash: 'LEHV6nWB2yk8pyo0adR*.7kCMdnj',
  takenAt: null,
  renditions: [{ name: 'thumb', key: 'media/1/x/thumb.jpg', width: 150, height: 113, format: 'jpeg' }],
}

type Renders = 'renders' | 'breaks'
type Step = 'renditions' | 'verdict'

let sequence = 0
const nextId = (shard = 17): Id => packId({ ms: Date.UTC(2026, 5, 1) + sequence++, shard, sequence: 0 })

async function upload(router: AppRouter): Promise<Id> {
  const id = nextId()
  await router.write(shardOf(id), (trx) =>
    createPhoto(trx, {
      id,
      accountId: nextId(),
      caption: { text: '', tags: [] },
      originalKey: `originals/${id}/x/original.jpg`,
      originalBytes: 1,
      mediaType: 'image/jpeg',
    }),
  )
  return id
}

function step(id: Id, which: Step, renders: Renders, verdict: Verdict): (trx: Trx) => Promise<PhotoStatus | boolean | null> {
  const publishedId = nextId()
  if (which === 'verdict') return (trx) => recordVerdict(trx, id, { verdict, detail: {} }, publishedId)
  if (renders === 'breaks') return (trx) => recordFailure(trx, id, BROKEN)
  return (trx) => recordRenditions(trx, id, FACTS, publishedId)
}

/** The photo as it ended, with how often it was announced and counted. */
async function outcome(router: AppRouter, id: Id): Promise<object> {
  const photo = await findPhoto(router, id)
  const announced = await sql<{ n: number }>`select count(*)::int as n from outbox
    where event = 'photo.published' and body->>'photoId' = ${id.toString()}`.execute(router.nodeOf(shardOf(id)).primary)
  const owner = photo?.account_id ?? id
  const counts = await readCounts(router, [owner], ['photos'])
  return {
    status: photo?.status,
    announced: announced.rows[0]?.n,
    counted: counts.get(owner)?.photos,
    placed: typeof photo?.published_id === 'bigint',
  }
}

function expected(renders: Renders, verdict: Verdict): object {
  const status = renders === 'breaks' ? 'failed' : { clean: 'published', review: 'review', reject: 'rejected' }[verdict]
  const published = status === 'published'
  return { status, announced: published ? 1 : 0, counted: published ? 1 : 0, placed: published }
}

t.test('the gate', async (t) => {
  const router = await openTestRouter(t)
  const orders: Step[][] = [
    ['renditions', 'verdict'],
    ['verdict', 'renditions'],
    ['renditions', 'renditions', 'verdict', 'verdict', 'renditions'],
    ['verdict', 'verdict', 'renditions', 'verdict', 'renditions'],
  ]
  for (const renders of ['renders', 'breaks'] as const) {
    for (const verdict of ['clean', 'review', 'reject'] as const) {
      const name = `a picture that ${renders}, judged ${verdict}`

      t.test(`${name}: one after the other, and again`, async (t) => {
        for (const order of orders) {
          const id = await upload(router)
          for (const which of order) await router.write(shardOf(id), step(id, which, renders, verdict))
          t.same(await outcome(router, id), expected(renders, verdict), order.join(', '))
        }
      })

      t.test(`${name}: all at once`, async (t) => {
        for (const order of orders) {
          const id = await upload(router)
          await Promise.all(order.map((which) => router.write(shardOf(id), step(id, which, renders, verdict))))
          t.same(await outcome(router, id), expected(renders, verdict), order.join(' | '))
        }
      })

      t.test(`${name}: each step crashes once before its commit`, async (t) => {
        for (const order of orders) {
          const id = await upload(router)
          for (const which of order) {
            const crash = router.write(shardOf(id), async (trx) => {
              await step(id, which, renders, verdict)(trx)
              throw new Error('crash')
            })
            await t.rejects(crash, { message: 'crash' })
            await router.write(shardOf(id), step(id, which, renders, verdict))
          }
          t.same(await outcome(router, id), expected(renders, verdict), order.join(', '))
        }
      })
    }
  }
})

t.test('a step that waits for the other’s lock sees its fact', async (t) => {
  const router = await openTestRouter(t)
  const id = await upload(router)
  let second: Promise<unknown> = Promise.resolve()
  await router.write(shardOf(id), async (trx) => {
    t.equal(await recordRenditions(trx, id, FACTS, nextId()), 'processing')
    second = router.write(shardOf(id), step(id, 'verdict', 'renders', 'clean'))
    await untilBlocked(trx)
  })
  t.equal(await second, 'published')
})

t.test('a photo that ran out of attempts fails, and a replay still publishes it', async (t) => {
  const router = await openTestRouter(t)
  for (const replay of [['renditions', 'verdict'], ['verdict', 'renditions']] as const) {
    const id = await upload(router)
    await router.write(shardOf(id), (trx) => recordFailure(trx, id, PROCESSING_FAILED))
    t.match(await findPhoto(router, id), { status: 'failed', failure_code: 'processing_failed' })
    const [first, second] = replay
    t.equal(await router.write(shardOf(id), step(id, first, 'renders', 'clean')), 'failed', 'the other job is dead still')
    t.match(await findPhoto(router, id), { status: 'failed', failure_code: 'processing_failed' })
    await router.write(shardOf(id), step(id, second, 'renders', 'clean'))
    t.same(await outcome(router, id), expected('renders', 'clean'))
    t.match(await findPhoto(router, id), { failure_code: null, failure_detail: null })
  }
})

t.test('a deleted photo takes no fact, and its end is announced once', async (t) => {
  const router = await openTestRouter(t)
  const id = await upload(router)
  const photo = await findPhoto(router, id)
  const invalidations = createInvalidations(noCache, createLogger({ process: 'test', level: 'silent' }))
  await deletePhoto({ router, invalidations }, photo?.account_id ?? id, id)
  await t.rejects(deletePhoto({ router, invalidations }, photo?.account_id ?? id, id), { code: 'not_found' })
  t.equal(await router.write(shardOf(id), step(id, 'renditions', 'renders', 'clean')), null)
  t.equal(await router.write(shardOf(id), step(id, 'verdict', 'renders', 'clean')), null)
  t.equal(await router.write(shardOf(id), step(id, 'renditions', 'breaks', 'clean')), false)
  t.match(await outcome(router, id), { status: 'deleted', announced: 0, counted: 0 })
})

/** Settles when some session of this database waits for a lock. */
async function untilBlocked(trx: Trx): Promise<void> {
  for (;;) {
    const { rows } = await sql`select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`.execute(trx)
    if (rows.length > 0) return
    // A transaction sees the statistics as they were at its first look, unless told to look again.
    await sql`select pg_stat_clear_snapshot()`.execute(trx)
  }
}
