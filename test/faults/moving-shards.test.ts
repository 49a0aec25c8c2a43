import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Shard } from '#kernel/snowflake.ts'
import type { Database } from '#domain/database.ts'
import { cleanShards } from '#domain/shards/clean-shards.ts'
import { formatShards } from '#domain/shards/shard-ranges.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type Account, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { CHECKOUT } from '../support/checkout-copy.ts'
import { startCommand, type RunningCommand } from '../support/command.ts'
import { eventually } from '../support/eventually.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { startTestTier, type TestTier } from '../support/tier.ts'

/**
 * Logical shards go from node to node, with every lever on, while people use two web processes: no answer is a 5xx, nothing acknowledged is
 * lost, and whoever wrote something reads it at once. The mover is killed -9 in the middle, and goes on; and so is a third
 * web process, whose uploads are then sent again with their keys.
 */
const PEOPLE = 6
const PAUSE_MS = 150
const CUT_UPLOADS = 12

t.test('shards move under load', async (t) => {
  const tier = await startTestTier(t, { nodes: 2 })
  const monogram = await startMonogram(t, { tier, stack: 'full', counts: { web: 3 } })
  const [first, second] = tier.nodes.map(({ name }) => name)
  const api = apiClient(monogram.urls.slice(0, 2))
  const doomed = monogram.processes.web[2]
  if (doomed?.port === undefined) throw new Error('no third web process')
  const unlucky = await api.signUp('unlucky')
  const load = await startLoad(api)
  const shards = async (): Promise<string> => formatShards(await shardsWithRows(tier))
  const run = (...args: string[]): RunningCommand =>
    startCommand(t, process.execPath, ['scripts/shards.ts', ...args], { cwd: CHECKOUT, env: { PATH: process.env.PATH, ...tier.env } })
  const finish = async (command: RunningCommand): Promise<string> => {
    const exit = await Promise.race([command.ended, load.failed])
    t.same(exit, { code: 0, signal: null }, command.output())
    return command.output()
  }

  const killed = run('move', await shards(), '--to', second ?? '')
  await Promise.race([killed.printed(/^moved\t\d+\t/m), load.failed])
  process.kill(killed.pid, 'SIGKILL')
  t.same(await killed.ended, { code: null, signal: 'SIGKILL' })
  await load.rounds(2)
  const resuming = run('move', await shards(), '--to', second ?? '')
  await Promise.race([resuming.printed(/^moved\t\d+\t/m), load.failed])
  const cut = await uploadAndKill(apiClient([`http://127.0.0.1:${doomed.port}`]), api, unlucky, () => doomed.kill('SIGKILL'))
  const resumed = await finish(resuming)
  t.comment(resumed)
  t.same(await shardsOn(tier, first ?? ''), [], 'none of those that people use is left')
  await load.rounds(2)
  t.comment(await finish(run('move', await shards(), '--to', first ?? '')))
  await load.rounds(1)
  const { people, photos, captions } = await load.stop()
  t.comment(`${photos.length} photos`)

  const router = await openRouter<Database>({ nodes: tier.nodes.map(({ name, primary }) => ({ name, url: primary.url })), poolMax: 2, applicationName: 'test' }, createLogger({ process: 'test', level: 'silent' }))
  t.teardown(() => router.close())
  while ((await cleanShards(router, 0)).rest > 0);
  t.same(await shardsOn(tier, second ?? '', true), [], 'nothing is left where they were')
  const db = openDatabase(t, monogram.databaseUrl)
  await assertInvariants(t, monogram, db, { photos: [...photos, ...cut].map(({ id }) => id) })
  const theirs = await api.all<Photo>(`/v1/accounts/${unlucky.account.id}/photos`, { limit: 100 })
  t.same(theirs.map(({ id }) => id).toSorted(), cut.map(({ id }) => id).toSorted(), 'one photo for each key')
  for (const { person, follows } of people) {
    const account = await api.ok<Account>('GET', `/v1/accounts/${person.account.id}`)
    t.match(account, {
      photoCount: photos.filter((photo) => photo.account.id === account.id).length,
      followingCount: follows.size,
      followerCount: people.filter((other) => other.follows.has(account.id)).length,
    }, `the counts of ${account.username}`)
    const feed = await api.all<Photo>('/v1/feed', { token: person.token, limit: 10 })
    t.same(feed.map(({ id, caption }) => [id, caption]).toSorted(), photos.filter((photo) => follows.has(photo.account.id)).map(({ id }) => [id, captions.get(id)]).toSorted(), `the feed of ${account.username}`)
  }
})

/** Uploads at once through a process that is killed as soon as the first is acknowledged; all again through others. */
async function uploadAndKill(doomed: ApiClient, api: ApiClient, { token }: Person, kill: () => unknown): Promise<Photo[]> {
  const picture = await makePicture({ seed: 2, width: 240, height: 180 })
  const upload = (through: ApiClient, key: string): Promise<Photo> =>
    through.ok<Photo>('POST', '/v1/photos', { token, form: uploadForm(picture, key), headers: { 'idempotency-key': key } })
  const keys = Array.from({ length: CUT_UPLOADS }, (_, index) => `cut-${index}`)
  const first = keys.map((key) => upload(doomed, key))
  const known = new Map<string, Photo>()
  await Promise.any(first)
  await kill()
  for (const [index, outcome] of (await Promise.allSettled(first)).entries()) {
    if (outcome.status === 'fulfilled') known.set(keys[index] ?? '', outcome.value)
  }
  return Promise.all(
    keys.map((key) =>
      eventually(key, async () => {
        const photo = await upload(api, key).catch(orRunning)
        const before = known.get(key)
        if (photo !== undefined && before !== undefined && photo.id !== before.id) throw new Error(`${key} made two photos`)
        return photo
      }),
    ),
  )
}

/** Whose process has died holds its key for some seconds. */
function orRunning(error: unknown): undefined {
  if (error instanceof Error && error.message.includes('409')) return undefined
  throw error
}

/** The shards that have rows of people's: of their ids and of their names. */
async function shardsWithRows(tier: TestTier): Promise<Shard[]> {
  const found = new Set<Shard>()
  for (const { name } of tier.nodes) for (const shard of await shardsOn(tier, name, true)) found.add(shard)
  return [...found].sort((a, b) => a - b)
}

async function shardsOn(tier: TestTier, name: string, withOld = false): Promise<Shard[]> {
  const node = tier.nodes.find((found) => found.name === name)
  const rows = await node?.primary.sql(`select distinct shard::int from (
      select (id >> 10) & 8191 as shard from accounts union all select shard from usernames) as s
    where $1 or shard not in (select shard from shard_state)`, [withOld])
  return (rows ?? []).map((row) => (row as { shard: number }).shard)
}

interface LoadedPerson {
  readonly person: Person
  readonly follows: Set<string>
}

interface Load {
  /** Rejects when an answer was not what it has to be. */
  readonly failed: Promise<never>
  /** Resolves when everybody has gone through as many more rounds. */
  rounds(count: number): Promise<void>
  stop(): Promise<{ readonly people: LoadedPerson[]; readonly photos: Photo[]; readonly captions: Map<string, string> }>
}

/** People who each do one thing after the other, and look at what they did, at the other web process. */
async function startLoad(api: ApiClient): Promise<Load> {
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  const people: LoadedPerson[] = []
  const photos: Photo[] = []
  const captions = new Map<string, string>()
  const done: number[] = []
  let isStopping = false

  async function round({ person, follows }: LoadedPerson, number: number): Promise<void> {
    const { token, account } = person
    const photo = await api.ok<Photo>('POST', '/v1/photos', { token, form: uploadForm(picture, `new ${number}`), headers: { 'idempotency-key': `${account.username}-${number}` } })
    photos.push(photo)
    const caption = `edited ${number}`
    await api.ok('PATCH', `/v1/photos/${photo.id}`, { token, json: { caption } })
    captions.set(photo.id, caption)
    const read = await api.ok<Photo>('GET', `/v1/photos/${photo.id}`, { token })
    if (read.caption !== caption) throw new Error(`${photo.id} is ${read.caption} after ${caption} was acknowledged`)

    const others = people.filter((other) => other.person !== person)
    const other = others[number % others.length]?.person.account.id ?? ''
    const isOn = !follows.has(other)
    await api.ok(isOn ? 'PUT' : 'DELETE', `/v1/accounts/${other}/follow`, { token })
    if (isOn) follows.add(other)
    else follows.delete(other)
    const seen = await api.ok<Account>('GET', `/v1/accounts/${other}`, { token })
    if (seen.relationship?.following !== isOn) throw new Error(`the follow of ${other} is not ${isOn}`)
    const own = await api.ok<Account>('GET', `/v1/accounts/${account.username}`, { token })
    if (own.followingCount !== follows.size) throw new Error(`${own.followingCount} followees, not ${follows.size}`)
    // A feed may lag behind what others publish, but never shows whom one does not follow, nor a photo twice.
    const feed = await api.all<Photo>('/v1/feed', { token, limit: 10 })
    const strangers = feed.filter((shown) => !follows.has(shown.account.id))
    if (strangers.length > 0 || new Set(feed.map(({ id }) => id)).size !== feed.length) throw new Error('a feed is wrong')
  }

  for (let index = 0; index < PEOPLE; index++) people.push({ person: await api.signUp(`person_${index}`), follows: new Set() })
  const running = Promise.all(
    people.map(async (person, index) => {
      for (done[index] = 0; !isStopping; done[index]++) {
        await round(person, done[index] ?? 0)
        await wait(PAUSE_MS)
      }
    }),
  )
  const failed = running.then(() => new Promise<never>(() => undefined))
  failed.catch(() => undefined)
  return {
    failed,
    async rounds(count) {
      const goals = done.map((number) => number + count)
      while (goals.some((goal, index) => (done[index] ?? 0) < goal)) await Promise.race([wait(PAUSE_MS), failed])
    },
    async stop() {
      isStopping = true
      await running
      return { people, photos, captions }
    },
  }
}
