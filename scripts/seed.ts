import { SingleBar } from 'cli-progress'
import { Command, InvalidArgumentError } from 'commander'
import { setTimeout as wait } from 'node:timers/promises'
import { shardOf, type Id } from '#kernel/snowflake.ts'
import { findAccountByUsername } from '#domain/accounts/accounts.queries.ts'
import { createPasswords } from '#domain/accounts/passwords.ts'
import { signUp } from '#domain/accounts/sign-up.ts'
import { openContext, type OpenContext } from '#domain/context.ts'
import { follow } from '#domain/follows/follow.ts'
import { createPhoto } from '#domain/photos/photos.queries.ts'
import { originalsFolder, parseCaption } from '#domain/photos/photos.rules.ts'
import { makePicture } from './pictures/make-picture.ts'
import { seededRandom } from './pictures/random.ts'
import { zipfFollowGraph } from './seed/follow-graph.ts'
import { captionAt, displayNameAt, SEED_PASSWORD, usernameAt } from './seed/names.ts'

const ACCOUNTS_MAX = 100_000
const PHOTOS_MAX = 1_000_000
const SEED_MAX = 2 ** 31 - 1
const PICTURE = { width: 1280, height: 960 }
const POLL_MS = 250

interface SeedOptions {
  readonly accounts: number
  readonly photos: number
  readonly seed: number
  readonly wait: boolean
}

interface Person {
  readonly id: Id
  /** It was there before: an earlier run with this seed made it and its photos. */
  readonly known: boolean
}

new Command('seed')
  .description(
    'Fills a Monogram with people, a Zipf follow graph and rendered pictures, through the same code as the API.\n' +
      'The same --seed gives the same people, follows, pictures and captions; accounts that exist are left alone.',
  )
  .option('--accounts <n>', 'how many accounts', wholeNumber(1, ACCOUNTS_MAX), 30)
  .option('--photos <n>', 'how many photos, spread over the accounts', wholeNumber(0, PHOTOS_MAX), 60)
  .option('--seed <n>', 'the number that everything random is drawn from', wholeNumber(0, SEED_MAX), 1)
  .option('--no-wait', 'do not wait until the workers have published the photos')
  .addHelpText('after', `\nEvery account has the password "${SEED_PASSWORD}". Reads the same environment as the processes.`)
  .action(seed)
  .parseAsync()
  .catch((error: unknown) => {
    process.stderr.write(`seed: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  })

async function seed(options: SeedOptions): Promise<void> {
  const context = await openContext('seed', { LOG_LEVEL: 'warn', ...process.env, METRICS_PORT: '' })
  try {
    const people = await signUpAll(context, options.accounts)
    await followAll(context, people, options.seed)
    const photos = await uploadAll(context, people, options)
    if (options.wait) await awaitPublication(context, photos)
    process.stdout.write(`Seeded: sign in as "${usernameAt(0)}" with the password "${SEED_PASSWORD}".\n`)
  } finally {
    await context.close()
  }
}

/** One password for all, so one hash: hashing is the slow part of a sign-up. */
async function signUpAll(context: OpenContext, accounts: number): Promise<Person[]> {
  const passwords = createPasswords()
  const passwordHash = await passwords.hash(SEED_PASSWORD)
  const signUpContext = { ...context, passwords: { ...passwords, hash: () => Promise.resolve(passwordHash) } }
  return withProgress('people', accounts, async (tick) => {
    const people: Person[] = []
    for (let rank = 0; rank < accounts; rank++) {
      const username = usernameAt(rank)
      const known = await findAccountByUsername(context.router, username)
      if (known === undefined) {
        const input = { username, displayName: displayNameAt(rank), email: null, password: SEED_PASSWORD }
        const { account } = await signUp(signUpContext, input, 'monogram seed')
        people.push({ id: account.id, known: false })
      } else {
        people.push({ id: known.id, known: true })
      }
      tick()
    }
    return people
  })
}

async function followAll(context: OpenContext, people: readonly Person[], seedNumber: number): Promise<void> {
  const graph = zipfFollowGraph(people.length, seededRandom(seedNumber))
  const total = graph.reduce((sum, followees) => sum + followees.length, 0)
  await withProgress('follows', total, async (tick) => {
    for (const [follower, followees] of graph.entries()) {
      for (const followee of followees) {
        const [from, to] = [people[follower], people[followee]]
        if (from !== undefined && to !== undefined) await follow(context, from.id, to.id)
        tick()
      }
    }
  })
}

async function uploadAll(context: OpenContext, people: readonly Person[], options: SeedOptions): Promise<Id[]> {
  return withProgress('photos', options.photos, async (tick) => {
    const photos: Id[] = []
    for (let number = 0; number < options.photos; number++) {
      const owner = people[number % people.length]
      if (owner?.known === false) photos.push(await uploadOne(context, owner.id, number, options.seed))
      tick()
    }
    return photos
  })
}

async function uploadOne(context: OpenContext, accountId: Id, number: number, seedNumber: number): Promise<Id> {
  const id = await context.ids.mint(shardOf(accountId))
  const picture = await makePicture({ ...PICTURE, seed: seedNumber * 1_000_003 + number })
  const originalKey = `${originalsFolder(id)}seed/original.jpg`
  await context.blobs.put(originalKey, picture, { contentType: 'image/jpeg' })
  await context.router.write(shardOf(id), (trx) =>
    createPhoto(trx, {
      id,
      accountId,
      caption: parseCaption(captionAt(number)),
      originalKey,
      originalBytes: picture.length,
      mediaType: 'image/jpeg',
    }),
  )
  return id
}

/** Follows the workers until every photo has left `processing`. */
async function awaitPublication(context: OpenContext, photos: readonly Id[]): Promise<void> {
  await withProgress('published', photos.length, async (tick) => {
    const open = new Set(photos)
    while (open.size > 0) {
      const counts = await context.router.readEach([...open], shardOf, (db, ids) =>
        db.selectFrom('photos').select('id').where('id', 'in', ids).where('status', '<>', 'processing').execute(),
      )
      for (const { id } of counts.flat()) if (open.delete(id)) tick()
      if (open.size > 0) await wait(POLL_MS)
    }
  })
}

async function withProgress<T>(what: string, total: number, work: (tick: () => void) => Promise<T>): Promise<T> {
  const bar = new SingleBar({
    format: `${what.padEnd(9)} [{bar}] {value}/{total}  {duration_formatted}`,
    noTTYOutput: true,
    notTTYSchedule: 5_000,
    hideCursor: true,
  })
  bar.start(total, 0)
  try {
    return await work(() => {
      bar.increment()
    })
  } finally {
    bar.stop()
  }
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`)
    }
    return value
  }
}
