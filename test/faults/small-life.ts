import { sql } from 'kysely'
import type { Id } from '#kernel/snowflake.ts'
import type { Db } from '#domain/database.ts'
import { DORMANT_AFTER_MS, putToRest } from '#domain/feed/dormancy.ts'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { PASSWORD, type Account, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { workEnded } from '../support/invariants.ts'

/** A few people who do, in order, everything that makes work for the workers; each cast has names of its own. */
const ROLES = ['author', 'other', 'early', 'late', 'fickle', 'turning', 'resting'] as const
type Role = (typeof ROLES)[number]

const DAY_MS = 86_400_000
/** Short, so that feeds have several pages. */
const PAGE_PHOTOS = 2

export interface SmallLife {
  readonly cast: string
  readonly people: Readonly<Record<Role, Person>>
  /** Captions of the photos that are left, by id. */
  readonly photos: ReadonlyMap<string, string>
}

/** Everything that is known of a life when nothing is left to be done, with captions in the place of ids. */
export type LifeState = Readonly<Record<Role, PersonState>>

interface PersonState {
  readonly counts: Pick<Account, 'photoCount' | 'followerCount' | 'followingCount'>
  /** As pages show it. */
  readonly feed: readonly string[]
  readonly own: readonly string[]
  /** The stored entries, those that no page shows included. */
  readonly entries: readonly string[]
}

/**
 * Follows before and after photos, one that ends and one that ends and begins again; photos, of which one is deleted while
 * its jobs run and one when it stands in feeds; and a reader who is away for a month, and whose feed is rebuilt.
 */
export async function liveThrough(api: ApiClient, db: Db, cast: string): Promise<SmallLife> {
  const signedUp: [Role, Person][] = []
  for (const role of ROLES) signedUp.push([role, await api.signUp(`${cast}_${role}`)])
  const people = Object.fromEntries(signedUp) as Record<Role, Person>
  const photos = new Map<string, string>()
  const picture = await makePicture({ seed: 1, width: 240, height: 180 })
  const ended = (): Promise<void> => workEnded([{ name: 'DATABASE_URL', db }])

  const follow = (who: Role, whom: Role, method: 'PUT' | 'DELETE' = 'PUT'): Promise<unknown> =>
    api.ok(method, `/v1/accounts/${people[whom].account.id}/follow`, { token: people[who].token })
  async function upload(who: Role, caption: string): Promise<string> {
    const { id } = await api.upload(people[who], picture, { caption })
    photos.set(id, caption)
    return id
  }
  async function remove(who: Role, id: string): Promise<void> {
    await api.ok('DELETE', `/v1/photos/${id}`, { token: people[who].token })
    photos.delete(id)
  }

  for (const who of ['early', 'fickle', 'turning', 'resting'] as const) await follow(who, 'author')
  await follow('early', 'other')
  await ended()
  await rest(db, people.resting)

  const first = await upload('author', 'first')
  await upload('other', 'from elsewhere')
  await upload('author', 'second')
  await remove('author', await upload('author', 'deleted while its jobs run'))
  await upload('author', 'third')
  await ended()

  // Who ends a follow keeps entries of what is deleted later, unseen.
  await remove('author', first)
  await ended()
  await follow('late', 'author')
  await follow('fickle', 'author', 'DELETE')
  await follow('turning', 'author', 'DELETE')
  await follow('turning', 'author')
  // Signing in brings the account back.
  people.resting = await api.ok('POST', '/v1/sessions', { json: { username: `${cast}_resting`, password: PASSWORD } })
  await upload('author', 'fourth')
  await ended()
  return { cast, people, photos }
}

/** Lets an account look as if nobody had seen it for a month, and marks it. */
async function rest(db: Db, { account }: Person): Promise<void> {
  const id = BigInt(account.id) as Id
  const then = new Date(Date.now() - DORMANT_AFTER_MS - DAY_MS)
  await db.transaction().execute(async (trx) => {
    await trx.updateTable('accounts').set({ last_seen_at: then }).where('id', '=', id).execute()
    await trx.updateTable('sessions').set({ last_seen_at: then }).where('account_id', '=', id).execute()
    if (!(await putToRest(trx, id, new Date(then.getTime() + DAY_MS)))) throw new Error(`${account.username} is not at rest`)
  })
}

/** Throws when a page has what it should not, or has it in another order than photos were published in. */
export async function readLife(api: ApiClient, db: Db, { people, photos }: SmallLife): Promise<LifeState> {
  const published = await db.selectFrom('photos').select(['id', 'published_id']).execute()
  const placeOf = new Map(published.map(({ id, published_id: place }) => [id.toString(), place ?? 0n]))
  const captionOf = (id: string): string => photos.get(id) ?? `a stranger's ${id}`
  async function read(path: string, who: Person): Promise<string[]> {
    const ids = (await api.all<Photo>(path, { token: who.token, limit: PAGE_PHOTOS })).map(({ id }) => id)
    const sorted = ids.toSorted((a, b) => ((placeOf.get(a) ?? 0n) > (placeOf.get(b) ?? 0n) ? -1 : 1))
    if (ids.join() !== sorted.join()) throw new Error(`${path} is in the order ${ids.join()}, not ${sorted.join()}`)
    // What two photos' jobs bring first is chance.
    return ids.map(captionOf).toSorted()
  }
  async function stateOf(who: Person): Promise<PersonState> {
    const path = `/v1/accounts/${who.account.id}`
    const { photoCount, followerCount, followingCount } = await api.ok<Account>('GET', path)
    const { rows } = await sql<{ photo_id: Id }>`select photo_id from feed_entries where account_id = ${BigInt(who.account.id)}`.execute(db)
    return {
      counts: { photoCount, followerCount, followingCount },
      feed: await read('/v1/feed', who),
      own: await read(`${path}/photos`, who),
      entries: rows.map(({ photo_id: id }) => captionOf(id.toString())).toSorted(),
    }
  }
  const states: [Role, PersonState][] = []
  for (const role of ROLES) states.push([role, await stateOf(people[role])])
  return Object.fromEntries(states) as LifeState
}
