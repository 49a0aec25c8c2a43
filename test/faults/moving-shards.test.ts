import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Shard } from '#kernel/snowflake.ts'
import type { Database } from '#domain/database.ts'
import { cleanShards } from '#domain/shards/clean-shards.ts'
import { formatShards } from '#domain/shards/shard-ranges.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type Account, type ApiClient, type CallOptions, type Page, type Person, type Photo, type Problem } from '../support/api-client.ts'
import { CHECKOUT } from '../support/checkout-copy.ts'
import { startCommand, type RunningCommand } from '../support/command.ts'
import { eventually } from '../support/eventually.ts'
import { startMonogram } from '../support/monogram.ts'
import { openNodes } from '../support/open-database.ts'
import { startTestTier, type TestTier, type TierNode } from '../support/tier.ts'
import { watchOwedDeletes, type OwedDeletes } from './owed-deletes.ts'
import { assertOutcome, type LoadedPerson, type Outcome } from './people-load.ts'
import { peopledShards } from '../support/peopled-shards.ts'
import { startRounds } from './rounds.ts'

/**
 * Logical shards go from node to node, with every lever on, while people use two web processes: no answer is a 5xx, nothing acknowledged is
 * lost, and whoever wrote something reads it at once. The mover is killed -9 in the middle, and goes on; and so is a third
 * web process, whose uploads are then sent again with their keys. At last it is the directory, to which shards come home:
 * until its return whoever is on the other node is served, and only what needs the dead one is answered by 503.
 */
const PEOPLE = 6
const RESTING_PEOPLE = 3
const PAUSE_MS = 150
const CUT_UPLOADS = 12
const REDONE_WITHIN_MS = 20_000

t.test('shards move under load', async (t) => {
  const tier = await startTestTier(t, { nodes: 2, ownServers: true })
  const monogram = await startMonogram(t, { tier, stack: 'full', counts: { web: 3 } })
  const [directory, other] = tier.nodes
  if (directory === undefined || other === undefined) throw new Error('two nodes')
  const [first, second] = [directory.name, other.name]
  const api = apiClient(monogram.urls.slice(0, 2))
  const doomed = monogram.processes.web[2]
  if (doomed?.port === undefined) throw new Error('no third web process')
  const unlucky = await api.signUp('unlucky')
  const nodes = openNodes(t, tier)
  const deletes = watchOwedDeletes(nodes.map(({ db }) => db))
  const resting = await rest(api)
  const outage: Outage = { alive: undefined }
  const load = await startLoad(t, api, deletes, outage)
  const shards = async (): Promise<string> => formatShards(await shardsWithRows(tier))
  const run = (...args: string[]): RunningCommand =>
    startCommand(t, process.execPath, ['scripts/shards.ts', ...args], { cwd: CHECKOUT, env: { PATH: process.env.PATH, ...tier.env } })
  const finish = async (command: RunningCommand): Promise<string> => {
    const exit = await Promise.race([command.ended, load.failed])
    t.same(exit, { code: 0, signal: null }, command.output())
    return command.output()
  }

  const killed = run('move', await shards(), '--to', second)
  await Promise.race([killed.printed(/^moved\t\d+\t/m), load.failed])
  process.kill(killed.pid, 'SIGKILL')
  t.same(await killed.ended, { code: null, signal: 'SIGKILL' })
  await load.rounds(2)
  const resuming = run('move', await shards(), '--to', second)
  await Promise.race([resuming.printed(/^moved\t\d+\t/m), load.failed])
  const cut = await uploadAndKill(apiClient([`http://127.0.0.1:${doomed.port}`]), api, unlucky, () => doomed.kill('SIGKILL'))
  const resumed = await finish(resuming)
  t.comment(resumed)
  t.same(await peopledShards(directory), [], 'none of those that people use is left')
  await load.rounds(2)

  const everything = await shards()
  const cutOff = run('move', everything, '--to', first)
  await Promise.race([cutOff.printed(/^moved\t\d+\t/m), load.failed])
  outage.alive = other
  await directory.primary.kill()
  t.not((await cutOff.ended).code, 0, cutOff.output())
  const edited = await editWhileAway(t, api, resting, other)
  await directory.primary.start()
  await eventually('all have the directory back', async () => {
    const answers = await Promise.all(monogram.urls.slice(0, 2).map(async (url) => (await fetch(`${url}/readyz`)).text()))
    return answers.every((text) => !text.includes('"down"')) ? true : undefined
  })
  outage.alive = undefined
  t.comment(await finish(run('move', everything, '--to', first)))
  await load.rounds(1)
  const { people, photos, captions } = await load.stop()
  await deletes.stop()

  const router = await openRouter<Database>({ nodes: tier.nodes.map(({ name, primary }) => ({ name, url: primary.url })), poolMax: 2, applicationName: 'test' }, createLogger({ process: 'test', level: 'silent' }))
  t.teardown(() => router.close())
  while ((await cleanShards(router, 0)).rest > 0);
  t.same(await peopledShards(other, true), [], 'nothing is left where they were')
  // One photo for each key.
  await assertOutcome(t, { monogram, nodes, api }, {
    people: [...people, ...[unlucky, ...resting.map(({ person }) => person)].map((person) => ({ person, follows: new Set<string>() }))],
    photos: [...photos, ...cut, ...resting.map(({ photo }) => photo)],
    captions: new Map([...captions, ...edited, ...cut.map(({ id, caption }) => [id, caption] as const)]),
  })
})

/** Somebody with one photo, who does nothing until a node is away. */
interface Resting {
  readonly person: Person
  readonly photo: Photo
}

async function rest(api: ApiClient): Promise<Resting[]> {
  const picture = await makePicture({ seed: 3, width: 240, height: 180 })
  const one = async (number: number): Promise<Resting> => {
    const person = await api.signUp(`resting_${number}`)
    return { person, photo: await api.upload(person, picture, { caption: 'at rest' }) }
  }
  return Promise.all(Array.from({ length: RESTING_PEOPLE }, (_, number) => one(number)))
}

/**
 * Everybody edits their photo: those who are on the node that is alive can, and read it at the other process; the others are told 503.
 * @returns the captions that were written
 */
async function editWhileAway(t: Test, api: ApiClient, resting: readonly Resting[], alive: TierNode): Promise<Map<string, string>> {
  const captions = new Map(resting.map(({ photo }) => [photo.id, photo.caption]))
  for (const { person: { token, account }, photo } of resting) {
    const caption = 'edited while a node was away'
    const isServed = await isAtHome(alive, account.id)
    const { status, body } = await api.call('PATCH', `/v1/photos/${photo.id}`, { token, json: { caption } })
    t.equal(status, isServed ? 200 : 503, JSON.stringify(body))
    if (!isServed) continue
    captions.set(photo.id, caption)
    t.match(await api.ok<Photo>('GET', `/v1/photos/${photo.id}`, { token }), { caption })
  }
  t.ok([...captions.values()].includes('edited while a node was away'), 'some are on it')
  return captions
}

async function isAtHome({ primary }: TierNode, accountId: string): Promise<boolean> {
  const rows = await primary.sql(`select from accounts where id = $1 and ((id >> 10) & 8191) not in (select shard from shard_state)`, [accountId])
  return rows.length > 0
}

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
  for (const node of tier.nodes) for (const shard of await peopledShards(node, true)) found.add(shard)
  return [...found].sort((a, b) => a - b)
}

/** The node that is alive while the other is dead; undefined while both are well. */
interface Outage {
  alive: TierNode | undefined
}

interface Load {
  /** Rejects when an answer was not what it has to be. */
  readonly failed: Promise<never>
  /** Resolves when everybody has gone through as many more rounds. */
  rounds(count: number): Promise<void>
  stop(): Promise<Outcome>
}

/**
 * People who each do one thing after the other, and look at what they did, at the other web process.
 *
 * @param deletes what alone excuses an old value, and only until the delete is redone
 * @param outage what alone excuses a 503, for what needs the dead node
 */
async function startLoad(t: Test, api: ApiClient, deletes: OwedDeletes, outage: Outage): Promise<Load> {
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  const outcome: Outcome = { people: [], photos: [], captions: new Map() }
  const { people, photos, captions } = outcome

  /** Sends a request until it succeeds. @param of whose shard alone it needs; null: it may need every node */
  async function send<T>(of: Person | null, ...[method, path, options]: [string, string, CallOptions]): Promise<T> {
    for (let was503 = false; ; was503 = true) {
      const before = outage.alive
      const { status, body } = await api.call<T & Problem>(method, path, options)
      if (status < 400) return body
      const alive = before ?? outage.alive
      const isExcused = status === 503 ? alive !== undefined && (of === null || !(await isAtHome(alive, of.account.id))) : was503 && body.code === 'idempotency_in_progress'
      if (!isExcused) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(body)}`)
      await wait(PAUSE_MS)
    }
  }

  async function readFeed(token: string): Promise<Photo[]> {
    const items: Photo[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: Page<Photo> = await send(null, 'GET', `/v1/feed?limit=10${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, { token })
      items.push(...page.items)
      cursor = page.next
    }
    return items
  }

  /** @param keys the cache's, of what is read; @param complain gives what is wrong with it */
  async function look<T>(keys: readonly string[], read: () => Promise<T>, complain: (found: T) => string | undefined): Promise<void> {
    const startMs = performance.now()
    const complaint = complain(await read())
    if (complaint === undefined) return
    if (!(await deletes.wasOwed(keys, startMs, performance.now()))) throw new Error(complaint)
    t.comment(`a cache server did not confirm a delete in time, and so: ${complaint}`)
    await eventually(`an end of ${complaint}`, async () => (complain(await read()) === undefined ? true : undefined), REDONE_WITHIN_MS)
  }

  async function round({ person, follows }: LoadedPerson, number: number): Promise<void> {
    const { token, account } = person
    const photo = await send<Photo>(person, 'POST', '/v1/photos', { token, form: uploadForm(picture, `new ${number}`), headers: { 'idempotency-key': `${account.username}-${number}` } })
    photos.push(photo)
    const caption = `edited ${number}`
    await send(person, 'PATCH', `/v1/photos/${photo.id}`, { token, json: { caption } })
    captions.set(photo.id, caption)
    await look([`photo:${photo.id}`], () => send<Photo>(person, 'GET', `/v1/photos/${photo.id}`, { token }), (read) =>
      read.caption === caption ? undefined : `${photo.id} is ${read.caption} after ${caption} was acknowledged`)

    const others = people.filter((other) => other.person !== person)
    const other = others[number % others.length]?.person.account.id ?? ''
    const isOn = !follows.has(other)
    await send(null, isOn ? 'PUT' : 'DELETE', `/v1/accounts/${other}/follow`, { token })
    if (isOn) follows.add(other)
    else follows.delete(other)
    const ofFollows = [`following:${account.id}`, `feed:${account.id}`]
    await look(ofFollows, () => send<Account>(null, 'GET', `/v1/accounts/${other}`, { token }), (seen) =>
      seen.relationship?.following === isOn ? undefined : `the follow of ${other} is not ${isOn}`)
    await look([`profile:${account.id}`], () => send<Account>(null, 'GET', `/v1/accounts/${account.username}`, { token }), (own) =>
      own.followingCount === follows.size ? undefined : `${own.followingCount} followees, not ${follows.size}`)
    // A feed may lag behind what others publish, but never shows whom one does not follow, nor a photo twice.
    await look(ofFollows, () => readFeed(token), (feed) => {
      const strangers = feed.filter((shown) => !follows.has(shown.account.id))
      return strangers.length === 0 && new Set(feed.map(({ id }) => id)).size === feed.length ? undefined : 'a feed is wrong'
    })
  }

  for (let index = 0; index < PEOPLE; index++) people.push({ person: await api.signUp(`person_${index}`), follows: new Set() })
  const { failed, more, stop } = startRounds(people, round, PAUSE_MS)
  return {
    failed,
    rounds: more,
    async stop() {
      await stop()
      return outcome
    },
  }
}
