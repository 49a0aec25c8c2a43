import { setTimeout as wait } from 'node:timers/promises'
import type { Db } from '#domain/database.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, type Account, type Answer, type ApiClient, type Page, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { createRegister, type Register } from '../support/register.ts'
import { watchOwedDeletes } from './owed-deletes.ts'

/** Clients that write and read without pause, and check everything they read against what they wrote. */
export interface CacheTraffic {
  readonly photos: readonly string[]
  readonly api: () => ApiClient
  /** Sends requests elsewhere from now on. */
  turnTo(urls: readonly string[]): void
  /** Settles when every client has done so many more rounds. */
  rounds(count: number): Promise<void>
  /**
   * What was read wrong since the last call. A value older than the last write is not wrong while the delete of its key
   * is still owed to a server that did not confirm it.
   */
  takeWrong(): Promise<string[]>
  /** How many values have been read and checked. */
  values(): number
  /** How many of them were older than the last write while a delete was owed, of those that `takeWrong` has judged. */
  owed(): number
  stop(): Promise<void>
}

const PHOTOS = 10
const READERS = 3
const PAUSE_MS = 5
const WRONG_MAX = 20
/** How long the top of a feed is kept: so long it may lack what was published since. */
const FEED_LIFE_MS = 2_000

interface SeenAuthor {
  displayName: string
}

/** A read that found what it should not have, unless a delete of one of the keys was owed then. */
interface Suspect {
  readonly text: string
  readonly keys: readonly string[]
  readonly startMs: number
  readonly endMs: number
}

export async function startCacheTraffic(urls: readonly string[], db: Db): Promise<CacheTraffic> {
  let api = apiClient(urls)
  const [author, reader, fickle] = [await api.signUp('author'), await api.signUp('reader'), await api.signUp('fickle')]
  await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: reader.token })
  const ids = await publishAll(api, author, reader)
  const captions = new Map(ids.map((id) => [id, createRegister('0')]))
  const name = createRegister('author')
  const follows = createRegister(false)

  const ofFickle = [`following:${fickle.account.id}`, `feed:${fickle.account.id}`]

  const wrong: string[] = []
  let [values, owed] = [0, 0]
  const suspects: Suspect[] = []
  const deletes = watchOwedDeletes([db])
  const state = { isStopping: false }

  /** One read, whose findings are checked against the time that it took. */
  async function read<T>(path: string, as: Person | null, check: (answer: Answer<T>, is: Check) => void): Promise<void> {
    const startMs = performance.now()
    const answer = await api.call<T>('GET', path, as === null ? {} : { token: as.token })
    const endMs = performance.now()
    if (answer.status !== 200) return void wrong.push(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    check(answer, (what, { register, keys }, value) => {
      values++
      if (register.mayHold(value, startMs, endMs)) return
      const text = `${path}: ${what} is ${String(value)}, not ${String(register.current)}`
      // What was never written, or not yet, has no excuse.
      suspects.push({ text, keys: register.mayHold(value, -Infinity, endMs) ? keys : [], startMs, endMs })
    })
  }

  function checkPhoto(photo: Photo & { account: SeenAuthor }, is: Check): void {
    const caption = captions.get(photo.id)
    if (caption === undefined) wrong.push(`a photo ${photo.id} of nobody’s`)
    else is(`the caption of ${photo.id}`, { register: caption, keys: [`photo:${photo.id}`] }, photo.caption)
    is(`the author of ${photo.id}`, { register: name, keys: [`summary:${author.account.id}`] }, photo.account.displayName)
  }
  function checkPhotos({ body }: Answer<Page<Photo & { account: SeenAuthor }>>, is: Check): void {
    if (body.items.map(({ id }) => id).join() !== ids.join()) wrong.push(`a list of ${body.items.length} photos`)
    for (const photo of body.items) checkPhoto(photo, is)
  }

  async function readAll(number: number): Promise<void> {
    await read<Photo & { account: SeenAuthor }>(`/v1/photos/${ids[number % ids.length]}`, null, ({ body }, is) => checkPhoto(body, is))
    await read('/v1/feed', reader, checkPhotos)
    await read(`/v1/accounts/${author.account.id}/photos`, null, checkPhotos)
    await read<Account>(`/v1/accounts/${author.account.id}`, fickle, ({ body }, is) => {
      const keys = [`profile:${author.account.id}`]
      is('the name', { register: name, keys }, body.displayName)
      is('the followers', { register: follows, keys }, body.followerCount === 2 ? true : body.followerCount === 1 ? false : null)
      is('the relationship', { register: follows, keys: ofFickle }, body.relationship?.following ?? null)
    })
    await read<Page<Photo>>('/v1/feed', fickle, ({ body: { items } }, is) => {
      is('what is followed', { register: follows, keys: ofFickle }, items.length === PHOTOS ? true : items.length === 0 ? false : null)
    })
  }

  async function writeAll(number: number): Promise<void> {
    const must = async (sent: Promise<Answer<unknown>>): Promise<void> => {
      const { status, body } = await sent
      if (status !== 200) wrong.push(`a write gave ${status} ${JSON.stringify(body)}`)
    }
    const id = ids[number % ids.length] ?? ''
    const [caption, displayName, follow] = [String(number + 1), `author ${number}`, !follows.current]
    await captions.get(id)?.write(caption, () => must(api.call('PATCH', `/v1/photos/${id}`, { token: author.token, json: { caption } })))
    await name.write(displayName, () => must(api.call('PATCH', '/v1/me', { token: author.token, json: { displayName } })))
    await follows.write(follow, () => {
      return must(api.call(follow ? 'PUT' : 'DELETE', `/v1/accounts/${author.account.id}/follow`, { token: fickle.token }))
    })
  }

  const done = Array<number>(READERS + 1).fill(0)
  const running = Promise.all(
    done.map(async (_, client) => {
      for (let number = 0; !state.isStopping; number++) {
        await (client === 0 ? writeAll(number) : readAll(number + client))
        done[client] = number + 1
        await wait(PAUSE_MS)
      }
    }),
  )
  running.catch(() => undefined)

  return {
    photos: ids,
    api: () => api,
    turnTo(next) {
      api = apiClient(next)
    },
    async rounds(count) {
      const until = done.map((rounds) => rounds + count)
      while (done.some((rounds, client) => rounds < (until[client] ?? 0))) await Promise.race([wait(PAUSE_MS), running])
    },
    async takeWrong() {
      const judged = suspects.splice(0)
      const guilty: Suspect[] = []
      for (const suspect of judged) if (!(await deletes.wasOwed(suspect.keys, suspect.startMs, suspect.endMs))) guilty.push(suspect)
      owed += judged.length - guilty.length
      return [...wrong.splice(0), ...guilty.map(({ text }) => text)].slice(0, WRONG_MAX)
    },
    values: () => values,
    owed: () => owed,
    async stop() {
      state.isStopping = true
      await Promise.all([running, deletes.stop()])
    },
  }
}

/** What a value was written to, and the cache's keys that a write makes stale. */
interface Written<T> {
  readonly register: Register<T>
  readonly keys: readonly string[]
}

/** Checks one value that was read against what was written; null is none that it can be. */
type Check = <T>(what: string, written: Written<T>, value: NoInfer<T> | null) => void

/** The ids as lists show them. */
async function publishAll(api: ApiClient, author: Person, reader: Person): Promise<string[]> {
  const picture = await makePicture({ seed: 1, width: 320, height: 240 })
  for (let index = 0; index < PHOTOS; index++) await api.upload(author, picture, { caption: '0' })
  const ids = await eventually('the photos in the feed', async () => {
    const { items } = await api.ok<Page<Photo>>('GET', '/v1/feed', { token: reader.token })
    return items.length === PHOTOS ? items.map(({ id }) => id) : undefined
  })
  await wait(FEED_LIFE_MS)
  return ids
}
