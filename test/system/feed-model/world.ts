import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import type { Test } from 'tap'
import { shardOf, type Id, type Shard } from '#kernel/snowflake.ts'
import { sessionKey } from '#domain/accounts/accounts.keys.ts'
import { setRole } from '#domain/accounts/accounts.queries.ts'
import { openContext, type Context } from '#domain/context.ts'
import { DORMANT_AFTER_MS } from '#domain/feed/dormancy.ts'
import { QUEUES } from '#domain/queues.ts'
import { writeThrough } from '#domain/write-through.ts'
import { atHome } from '#platform/postgres/at-home.ts'
import { makePicture } from '../../../scripts/pictures/make-picture.ts'
import { accountsRester } from '../../../services/fanout-worker/rest-accounts.ts'
import { screenPhoto } from '../../../services/safety-worker/screen-photo.ts'
import type { Screen } from '../../../services/safety-worker/screen.ts'
import { apiClient, type Account, type ApiClient, type Person, type Photo } from '../../support/api-client.ts'
import { eventually } from '../../support/eventually.ts'
import { inLanes } from '../../support/in-lanes.ts'
import { onTeardown } from '../../support/teardown.ts'
import { startMonogram, type Monogram } from '../../support/monogram.ts'
import { startTestTier, type TestTier } from '../../support/tier.ts'
import { sumMetric } from '../../support/web-metrics.ts'
import type { Operation } from './model.ts'

/** The real Monogram, on which the model's operations are done; people and photos go by the model's numbers. */
export interface World {
  readonly monogram: Monogram
  /** Of the process that screens, this one. */
  readonly context: Context
  /** The logical shards of all people. */
  shards(): Shard[]
  /** Does operations over HTTP: those of one person in their order, those of several at once. */
  perform(operations: readonly Operation[]): Promise<void>
  /**
   * Settles when every worker has done all that there is to do, replicas have all of it, and the cache no skeleton of a feed
   * from before. Throws when something was given up on.
   */
  drain(): Promise<void>
  /** How often each lever has been of use to the web processes. */
  countLeverUses(): Promise<Record<'cache' | 'broker' | 'replicas' | 'pooler', number>>
  /** The places of all published photos, by the model's number; newer ones have greater places. */
  readPlaces(): Promise<Map<number, Id>>
  /** How many of them are left to their readers to pull. */
  countPulled(): Promise<number>
  /** The whole feed of a person, read in pages of `limit`. */
  readFeed(who: number, limit: number): Promise<number[]>
  readProfile(who: number): Promise<Account>
  /** Whom a person follows, as itself sees it, in no order. */
  readFollowees(who: number): Promise<number[]>
  /** Makes people look as if nobody had seen them for a month, and marks them. */
  putToRest(people: readonly number[]): Promise<void>
}

/** People at once. */
export const LANES = 8
/** A picture of that width is held for review; all others are clean. */
const HELD_WIDTH = 17
const CLEAN_WIDTH = 16
const HEIGHT = 12
const SCREENS_AT_ONCE = 4
const SCREEN_DEADLINE_MS = 30_000
const POOL_CONNECTIONS = '4'
/** How long what is published may stay unseen by who has read a feed just before (`feed.skeleton.ts`). */
const SKELETON_LIFE_MS = 2_000
const METRICS_TOKEN = 'the-metrics-token'

/** In the place of the classifier, which takes 150 ms for a picture and would have to be shown something to object to. */
const widthScreen: Screen = {
  name: 'width',
  screen: ({ width }) => Promise.resolve({ verdict: width === HELD_WIDTH ? 'review' : 'clean', detail: { width } }),
  close: () => Promise.resolve(),
}

/**
 * Starts it with every lever on: four nodes with a replica each, all behind PgBouncer, the cache, the broker, S3; every
 * process type, the safety worker in this process, for its screen.
 */
export async function startWorld(t: Test, env: Record<string, string>): Promise<World> {
  const tier = await startTestTier(t, { nodes: 4, replicasOfEach: 1, pgbouncer: true })
  // No process has ever worked without the cache, which others would have to learn of.
  const levers = { CACHE_ATTACH_SECONDS: '0', METRICS_TOKEN }
  const monogram = await startMonogram(t, { tier, stack: 'full', counts: { 'web': 2, 'safety-worker': 0 }, env: { ...levers, ...env } })
  const context = await openContext('safety-worker', { ...monogram.env, DATABASE_POOL_MAX: POOL_CONNECTIONS, LOG_LEVEL: 'silent' })
  onTeardown(t, () => context.close())
  context.transport.consume({
    queue: QUEUES.safety,
    handlers: [screenPhoto(context, [widthScreen])],
    concurrency: SCREENS_AT_ONCE,
    deadlineMs: SCREEN_DEADLINE_MS,
  })
  const api = apiClient(monogram.urls)
  const moderator = await api.signUp('moderator')
  await setRole(context.router, idOf(moderator.account.id), 'moderator')
  const [clean, held] = await Promise.all([CLEAN_WIDTH, HELD_WIDTH].map((width) => makePicture({ seed: 1, width, height: HEIGHT })))
  if (clean === undefined || held === undefined) throw new Error('no pictures')
  return createWorld({ monogram, tier, context, api, moderator, pictures: { clean, held } })
}

interface Parts {
  readonly monogram: Monogram
  readonly tier: TestTier
  readonly context: Context
  readonly api: ApiClient
  readonly moderator: Person
  readonly pictures: { readonly clean: Buffer; readonly held: Buffer }
}

function createWorld({ monogram, tier, context, api, moderator, pictures }: Parts): World {
  const people: Person[] = []
  /** By the model's number; and back. */
  const photoIds: string[] = []
  const numbers = new Map<string, number>()
  let feedsReadMs = -Infinity

  function personOf(who: number): Person {
    const person = people[who]
    if (person === undefined) throw new RangeError(`there is no person ${who}`)
    return person
  }

  async function perform(operation: Operation): Promise<void> {
    switch (operation.kind) {
      case 'sign up':
        people[operation.who] = await api.signUp(`person_${operation.who}`)
        return
      case 'follow':
      case 'unfollow': {
        const path = `/v1/accounts/${personOf(operation.whom).account.id}/follow`
        await api.ok(operation.kind === 'follow' ? 'PUT' : 'DELETE', path, { token: personOf(operation.who).token })
        return
      }
      case 'post': {
        const picture = operation.isHeld ? pictures.held : pictures.clean
        const { id } = await api.upload(personOf(operation.who), picture, { caption: `photo ${operation.photo}` })
        photoIds[operation.photo] = id
        numbers.set(id, operation.photo)
        return
      }
      case 'delete':
        await api.ok('DELETE', `/v1/photos/${photoIds[operation.photo]}`, { token: personOf(operation.who).token })
        return
      case 'release':
      case 'reject': {
        const json = { verdict: operation.kind === 'release' ? 'clean' : 'reject', note: 'by the model' }
        await api.ok('POST', `/v1/moderation/photos/${photoIds[operation.photo]}/decision`, { token: moderator.token, json })
        return
      }
      case 'return':
      case 'go quiet':
        // One returns by whatever one does next, and goes by doing nothing.
    }
  }

  async function countUnfinished(): Promise<number> {
    const counts = await context.router.readNodes(async (db) => {
      const { rows } = await sql<{ left: number; dead: number }>`select (
          (select count(*) from outbox)
          + (select count(*) from photos where ${atHome('id')} and (status in ('processing', 'deleted')
              or (status = 'published' and fanned_out_at is null)))
          + (select count(*) from follows where backfilled_at is null and ${atHome('follower_id')})
          + (select count(*) from accounts where rebuild_asked_at is not null and not dormant and ${atHome('id')})
          + (select count(*) from cache_invalidations)
        )::int as left, (select count(*) from dead_letters)::int as dead`.execute(db)
      return rows[0] ?? { left: 0, dead: 0 }
    })
    if (counts.some(({ dead }) => dead > 0)) throw new Error('there are dead letters')
    return counts.reduce((sum, { left }) => sum + left, 0)
  }

  return {
    monogram,
    context,
    shards: () => [...new Set(people.map(({ account }) => shardOf(idOf(account.id))))],
    async perform(operations) {
      const signUps = operations.filter(({ kind }) => kind === 'sign up')
      await Promise.all(signUps.map(perform))
      const queues = Map.groupBy(operations.filter(({ kind }) => kind !== 'sign up'), (operation) => ('who' in operation ? operation.who : -1))
      await inLanes([...queues.values()], LANES, async (queue) => {
        for (const operation of queue) await perform(operation)
      })
    },
    async drain() {
      await eventually('the end of all work', async () => ((await countUnfinished()) === 0 ? true : undefined))
      await Promise.all(tier.nodes.flatMap(({ replicas }) => replicas.map((replica) => replica.caughtUp())))
      // Mostly that is over: feeds are read between the rounds alone.
      await wait(Math.max(0, feedsReadMs + SKELETON_LIFE_MS - performance.now()))
    },
    async countLeverUses() {
      const sum = (name: string, labels: Record<string, string>): Promise<number> => sumMetric(monogram.urls, METRICS_TOKEN, `monogram_${name}_total`, labels)
      const [cache, broker, replicas, transactions] = await Promise.all([
        sum('cache_reads', { end: 'hit' }),
        sum('broker_publishes', { end: 'confirmed' }),
        sum('replica_reads', { target: 'replica' }),
        tier.pgbouncer?.show('show stats'),
      ])
      const nodes = (transactions ?? []).filter(({ database }) => database !== 'pgbouncer')
      return { cache, broker, replicas, pooler: nodes.reduce((total, row) => total + Number(row.total_xact_count), 0) }
    },
    async readPlaces() {
      const parts = await context.router.readNodes((db) =>
        db.selectFrom('photos').select(['id', 'published_id']).where('status', '=', 'published').where(atHome('id')).execute(),
      )
      return new Map(
        parts.flat().map(({ id, published_id: place }) => {
          const number = numbers.get(id.toString())
          if (number === undefined || place === null) throw new Error(`nobody posted the published photo ${id}`)
          return [number, place]
        }),
      )
    },
    async countPulled() {
      const parts = await context.router.readNodes((db) => db.selectFrom('photos').select('id').where('pull', '=', true).where(atHome('id')).execute())
      return parts.flat().length
    },
    async readFeed(who, limit) {
      const photos = await api.all<Photo>('/v1/feed', { token: personOf(who).token, limit })
      feedsReadMs = performance.now()
      return photos.map(({ id }) => numbers.get(id) ?? -1)
    },
    readProfile: (who) => api.ok<Account>('GET', `/v1/accounts/${personOf(who).account.id}`),
    async readFollowees(who) {
      const { token, account } = personOf(who)
      const accounts = await api.all<Account>(`/v1/accounts/${account.id}/following`, { token })
      return accounts.map(({ id }) => people.findIndex((person) => person.account.id === id))
    },
    async putToRest(resting) {
      const then = new Date(Date.now() - DORMANT_AFTER_MS - 86_400_000)
      for (const who of resting) {
        const id = idOf(personOf(who).account.id)
        await writeThrough(context, shardOf(id), async (trx, stale) => {
          await trx.updateTable('accounts').set({ last_seen_at: then }).where('id', '=', id).execute()
          const sessions = await trx.updateTable('sessions').set({ last_seen_at: then }).where('account_id', '=', id).returning('id').execute()
          // In a month they would have left the cache.
          stale(sessions.map((session) => sessionKey(id, session.id)))
        })
      }
      await accountsRester(context)()
    },
  }
}

function idOf(text: string): Id {
  return BigInt(text) as Id
}
