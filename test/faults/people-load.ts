import { sql } from 'kysely'
import type { Test } from 'tap'
import { atHome } from '#platform/postgres/at-home.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { PASSWORD, uploadForm, type Account, type ApiClient, type CallOptions, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { insist } from '../support/insist.ts'
import { assertInvariants } from '../support/invariants.ts'
import type { Monogram } from '../support/monogram.ts'
import type { NodeDatabase } from '../support/open-database.ts'
import { startRounds } from './rounds.ts'

/** People at work during a fault: they sign up, upload, edit, follow and unfollow, and remember what they were told. */

const AUTHORS = 4
/** Between two rounds of one person, so that the workers can keep up on two cores that boot processes all the time. */
const ROUND_PAUSE_MS = 400
const ROUNDS_PER_NEWCOMER = 6
const ROUNDS_PER_REPEAT = 3

export interface LoadedPerson {
  readonly person: Person
  /** Ids of those it follows, as the last acknowledged request of each says. */
  readonly follows: Set<string>
}

export interface Outcome {
  readonly people: LoadedPerson[]
  readonly photos: Photo[]
  /** What was written last, by photo. */
  readonly captions: Map<string, string>
}

export interface Load {
  /** Rejects when some request came to a bad end. */
  readonly failed: Promise<never>
  /** How many requests have been acknowledged until now that wrote something. */
  readonly written: number
  stop(): Promise<Outcome>
}

/** Several people at once, each doing one thing after the other. Every request is repeated until it is acknowledged. */
export async function startLoad(api: ApiClient): Promise<Load> {
  const outcome: Outcome = { people: [], photos: [], captions: new Map() }
  const { people, photos, captions } = outcome
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  let written = 0

  async function write<T>(...[method, path, options]: [string, string, CallOptions]): Promise<T> {
    const body = await insist<T>(api, method, path, options)
    written++
    return body
  }

  async function signUp(username: string): Promise<LoadedPerson> {
    const json = { username, password: PASSWORD }
    const person = await write<Person>('POST', '/v1/accounts', { json, headers: { 'idempotency-key': `sign-up-of-${username}` } })
    const made = { person, follows: new Set<string>() }
    people.push(made)
    return made
  }

  async function setFollow({ person, follows }: LoadedPerson, followee: Person, isOn: boolean): Promise<void> {
    await write(isOn ? 'PUT' : 'DELETE', `/v1/accounts/${followee.account.id}/follow`, { token: person.token })
    if (isOn) follows.add(followee.account.id)
    else follows.delete(followee.account.id)
  }

  async function round(author: LoadedPerson, number: number): Promise<void> {
    const { token, account } = author.person
    const upload = (): Promise<Photo> => write('POST', '/v1/photos', {
      token,
      form: uploadForm(picture, `new ${number}`),
      headers: { 'idempotency-key': `${account.username}-${number}` },
    })
    const photo = await upload()
    photos.push(photo)
    // As a client does that got no answer: kills seldom fall between the commit and the answer.
    if (number % ROUNDS_PER_REPEAT === 0) {
      const { id } = await upload()
      if (id !== photo.id) throw new Error(`the photo ${photo.id}, uploaded again with its key, became ${id}`)
    }
    captions.set(photo.id, photo.caption)

    const own = photos.filter((other) => other.account.id === account.id)
    const edited = own[Math.floor(own.length / 2)] ?? photo
    const caption = `edited ${number}`
    await write('PATCH', `/v1/photos/${edited.id}`, { token, json: { caption } })
    captions.set(edited.id, caption)

    const others = authors.filter((other) => other !== author)
    const other = others[number % others.length]
    if (other !== undefined) await setFollow(author, other.person, !author.follows.has(other.person.account.id))
    if (number % ROUNDS_PER_NEWCOMER === 0) await setFollow(await signUp(`fan_${number}_of_${account.username}`), author.person, true)
  }

  const authors: LoadedPerson[] = []
  for (let index = 0; index < AUTHORS; index++) authors.push(await signUp(`author_${index}`))
  const { failed, stop } = startRounds(authors, round, ROUND_PAUSE_MS)
  return {
    failed,
    get written() {
      return written
    },
    async stop() {
      await stop()
      return outcome
    },
  }
}

export interface LoadedMonogram {
  readonly monogram: Monogram
  readonly api: ApiClient
  /** All its nodes, the directory first. */
  readonly nodes: readonly NodeDatabase[]
}

/** The invariants, and that over HTTP all is as people were told: accounts, counts, feeds and captions. */
export async function assertOutcome(t: Test, { monogram, nodes, api }: LoadedMonogram, outcome: Outcome): Promise<void> {
  const { people, photos, captions } = outcome
  t.comment(`${photos.length} photos, ${people.length} people`)
  await assertInvariants(t, monogram, nodes, { photos: photos.map(({ id }) => id) })
  await eventually('the end of all invalidations', async () => {
    const left = await Promise.all(nodes.map(({ db }) => sql`select from cache_invalidations`.execute(db)))
    return left.every(({ rows }) => rows.length === 0) ? true : undefined
  })
  const accounts = (await Promise.all(nodes.map(({ db }) =>
    db.selectFrom('accounts').select('username').where('status', '=', 'active').where(atHome('id')).execute()))).flat()
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
}
