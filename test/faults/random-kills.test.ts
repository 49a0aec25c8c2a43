import { setTimeout as wait } from 'node:timers/promises'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { seededRandom } from '../../scripts/pictures/random.ts'
import { apiClient, PASSWORD, uploadForm, type Account, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { insist } from '../support/insist.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram, type Monogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { PROCESS_TYPES, type ProcessType, type TestProcess } from '../support/processes.ts'

/**
 * Row 1 of the faults, on the full stack: fifty times kill -9 of a random process of a random type, of two each, while
 * people sign up, upload, edit, follow and unfollow. Nothing acknowledged is lost, and nothing has happened twice.
 */
const SEED = 1
const KILLS = 50
const KILL_EVERY_MS = 1_500
const OF_EACH_TYPE = 2
const AUTHORS = 4
/** Between two rounds of one person, so that the workers can keep up on two cores that boot processes all the time. */
const ROUND_PAUSE_MS = 400
const ROUNDS_PER_NEWCOMER = 6

t.test('fifty kills under load', async (t) => {
  const monogram = await startMonogram(t, {
    stack: 'full',
    counts: Object.fromEntries(PROCESS_TYPES.map((type) => [type, OF_EACH_TYPE])),
  })
  const db = openDatabase(t, monogram.databaseUrl)
  const api = apiClient(monogram.urls)
  const load = await startLoad(api)
  await killAtRandom(t, monogram, load.failed)
  const { people, photos, captions } = await load.stop()
  t.comment(`${photos.length} photos, ${people.length} people`)

  await assertInvariants(t, monogram, db, { photos: photos.map(({ id }) => id) })
  await eventually('the end of all invalidations', async () => {
    const { rows } = await sql`select from cache_invalidations`.execute(db)
    return rows.length === 0 ? true : undefined
  })
  const accounts = await db.selectFrom('accounts').select('username').where('status', '=', 'active').execute()
  t.same(accounts.map((row) => row.username).toSorted(), people.map(({ person }) => person.account.username).toSorted(), 'each account once')

  for (const { person, follows } of people) {
    const account = await api.ok<Account>('GET', `/v1/accounts/${person.account.id}`)
    t.match(account, {
      photoCount: photos.filter((photo) => photo.account.id === account.id).length,
      followingCount: follows.size,
      followerCount: people.filter((other) => other.follows.has(account.id)).length,
    }, `the counts of ${account.username}`)
    const feed = await api.all<Photo>('/v1/feed', { token: person.token, limit: 100 })
    const expected = photos.filter((photo) => follows.has(photo.account.id))
    t.same(feed.map(({ id }) => id).toSorted(), expected.map(({ id }) => id).toSorted(), `the feed of ${account.username}`)
    t.same(feed.filter(({ id, caption }) => caption !== captions.get(id)), [], 'with the captions that were written last')
  }
})

/** Kills and starts again, until `failed` tells of a load that went wrong. */
async function killAtRandom(t: Test, monogram: Monogram, failed: Promise<never>): Promise<void> {
  const random = seededRandom(SEED)
  const pick = (count: number): number => Math.floor(random() * count)
  const slots = Object.fromEntries(
    PROCESS_TYPES.map((type) => [type, monogram.processes[type].map((process) => Promise.resolve(process))]),
  ) as Record<ProcessType, Promise<TestProcess>[]>
  const killed = new Map<ProcessType, number>()

  for (let kill = 0; kill < KILLS; kill++) {
    const type = PROCESS_TYPES[pick(PROCESS_TYPES.length)] ?? 'web'
    const slot = pick(OF_EACH_TYPE)
    const pace = wait(KILL_EVERY_MS)
    // One of each type goes on while the other boots.
    const victim = (await Promise.race([Promise.all(slots[type]), failed]))[slot]
    t.same(await victim?.kill('SIGKILL'), { code: null, signal: 'SIGKILL' })
    const started = monogram.start(type, type === 'web' ? { PORT: String(victim?.port ?? 0) } : {})
    started.catch(() => undefined)
    slots[type][slot] = started
    killed.set(type, (killed.get(type) ?? 0) + 1)
    await Promise.race([pace, failed])
  }
  await Promise.all(PROCESS_TYPES.flatMap((type) => slots[type]))
  t.comment(`killed: ${[...killed].map(([type, count]) => `${count} ${type}`).join(', ')}`)
}

interface LoadedPerson {
  readonly person: Person
  /** Ids of those it follows, as the last acknowledged request of each says. */
  readonly follows: Set<string>
}

interface Outcome {
  readonly people: LoadedPerson[]
  readonly photos: Photo[]
  /** What was written last, by photo. */
  readonly captions: Map<string, string>
}

interface Load {
  /** Rejects when some request came to a bad end. */
  readonly failed: Promise<never>
  stop(): Promise<Outcome>
}

/** Several people at once, each doing one thing after the other. */
async function startLoad(api: ApiClient): Promise<Load> {
  const outcome: Outcome = { people: [], photos: [], captions: new Map() }
  const { people, photos, captions } = outcome
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  let isStopping = false

  async function signUp(username: string): Promise<LoadedPerson> {
    const json = { username, password: PASSWORD }
    const person = await insist<Person>(api, 'POST', '/v1/accounts', { json, headers: { 'idempotency-key': `sign-up-of-${username}` } })
    const made = { person, follows: new Set<string>() }
    people.push(made)
    return made
  }

  async function setFollow({ person, follows }: LoadedPerson, followee: Person, isOn: boolean): Promise<void> {
    await insist(api, isOn ? 'PUT' : 'DELETE', `/v1/accounts/${followee.account.id}/follow`, { token: person.token })
    if (isOn) follows.add(followee.account.id)
    else follows.delete(followee.account.id)
  }

  async function round(author: LoadedPerson, number: number): Promise<void> {
    const { token, account } = author.person
    const photo = await insist<Photo>(api, 'POST', '/v1/photos', {
      token,
      form: uploadForm(picture, `new ${number}`),
      headers: { 'idempotency-key': `${account.username}-${number}` },
    })
    photos.push(photo)
    captions.set(photo.id, photo.caption)

    const own = photos.filter((other) => other.account.id === account.id)
    const edited = own[Math.floor(own.length / 2)] ?? photo
    const caption = `edited ${number}`
    await insist(api, 'PATCH', `/v1/photos/${edited.id}`, { token, json: { caption } })
    captions.set(edited.id, caption)

    const others = authors.filter((other) => other !== author)
    const other = others[number % others.length]
    if (other !== undefined) await setFollow(author, other.person, !author.follows.has(other.person.account.id))
    if (number % ROUNDS_PER_NEWCOMER === 0) await setFollow(await signUp(`fan_${number}_of_${account.username}`), author.person, true)
  }

  const authors: LoadedPerson[] = []
  for (let index = 0; index < AUTHORS; index++) authors.push(await signUp(`author_${index}`))
  const running = Promise.all(
    authors.map(async (author) => {
      for (let number = 0; !isStopping; number++) {
        await round(author, number)
        await wait(ROUND_PAUSE_MS)
      }
    }),
  )
  const failed = running.then(() => new Promise<never>(() => undefined))
  failed.catch(() => undefined)
  return {
    failed,
    async stop() {
      isStopping = true
      await running
      return outcome
    },
  }
}
