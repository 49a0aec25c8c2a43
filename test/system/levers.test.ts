import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { startFullStack } from '../support/full-stack.ts'
import { assertInvariants } from '../support/invariants.ts'
import { startMonogram, type Monogram } from '../support/monogram.ts'
import { openDatabase } from '../support/open-database.ts'
import { PROCESS_TYPES } from '../support/processes.ts'

/**
 * Each lever is turned on, off and on again by environment alone while people upload, edit and follow: every process
 * is replaced in a rolling way, nothing acknowledged is lost, and nobody ever reads what was before its own change.
 */
const LEVERS = {
  cache: { variables: ['MEMCACHE_SERVERS'], inUse: /^monogram_cache_reads_total\{.*end="hit".*\} [1-9]/m },
  broker: { variables: ['AMQP_URL'], inUse: /^monogram_broker_publishes_total\{.*end="confirmed".*\} [1-9]/m },
} as const
const TURNS = ['on', 'off', 'on'] as const
/** What each turn lets happen before the next, at least. */
const ROUNDS_PER_TURN = 3
/** For how long a cache that was switched on is not read: processes without it may still be writing. */
const ATTACH_SECONDS = '30'
const TOKEN = 'the-metrics-token'

t.test('levers under load', async (t) => {
  const monogram = await startMonogram(t, { env: { METRICS_TOKEN: TOKEN, CACHE_ATTACH_SECONDS: ATTACH_SECONDS } })
  const servers = await startFullStack(t)
  const db = openDatabase(t, monogram.databaseUrl)
  const traffic = await startTraffic(t, monogram)

  for (const [lever, { variables, inUse }] of Object.entries(LEVERS)) {
    for (const turn of TURNS) {
      const env = Object.fromEntries(turn === 'on' ? variables.map((name) => [name, servers[name] ?? '']) : [])
      await replaceAll(monogram, traffic, env)
      await traffic.rounds(ROUNDS_PER_TURN)
      if (turn === 'off') t.notMatch(await metrics(monogram), inUse, `${lever} off`)
      else await eventually(`${lever} on, and used`, async () => (inUse.test(await metrics(monogram)) ? true : undefined))
    }
  }
  await traffic.stop()
  await assertInvariants(t, monogram, db, { photos: traffic.photos })
})

async function metrics(monogram: Monogram): Promise<string> {
  const port = monogram.processes.web[0]?.port ?? 0
  return apiClient([`http://127.0.0.1:${port}`]).ok<string>('GET', '/metrics', { token: TOKEN })
}

interface Traffic {
  readonly photos: string[]
  /** Sends requests elsewhere from now on. */
  turnTo(url: string): void
  /** Settles after so many more rounds. */
  rounds(count: number): Promise<void>
  /** Ends it. @throws what a round found wrong */
  stop(): Promise<void>
}

/** Starts each type anew with `env`, then lets the old one leave: web last, so that its successors can work. */
async function replaceAll(monogram: Monogram, traffic: Traffic, env: Record<string, string>): Promise<void> {
  for (const type of PROCESS_TYPES.toReversed()) {
    const [old] = monogram.processes[type]
    const started = await monogram.start(type, env)
    if (type === 'web') traffic.turnTo(`http://127.0.0.1:${started.port ?? 0}`)
    await old?.kill('SIGTERM')
    monogram.processes[type] = [started]
  }
}

/** One person posts and edits, another follows and unfollows; each checks at once that it reads its own change. */
async function startTraffic(t: Test, monogram: Monogram): Promise<Traffic> {
  let api: ApiClient = apiClient(monogram.urls)
  const [author, reader] = [await api.signUp('author'), await api.signUp('reader')]
  const fan = await api.signUp('fan')
  await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: fan.token })
  const picture = await makePicture({ seed: 1, width: 200, height: 150 })
  const photos: string[] = []
  const state = { roundsDone: 0, isStopping: false }

  /** Tries again while the process that was asked is leaving. */
  async function insist<T>(work: (api: ApiClient) => Promise<T>): Promise<T> {
    for (;;) {
      const used = api
      try {
        return await work(used)
      } catch (error) {
        if (!(error instanceof TypeError) || state.isStopping) throw error
        await wait(50)
      }
    }
  }

  async function round(number: number): Promise<void> {
    const key = `round-${number}`
    const photo = await insist((to) =>
      to.ok<Photo>('POST', '/v1/photos', { token: author.token, form: uploadForm(picture, 'new'), headers: { 'idempotency-key': key } }),
    )
    photos.push(photo.id)
    const caption = `edited ${number}`
    const edited = photos[Math.floor(number / 2)] ?? photo.id
    await insist((to) => to.ok('PATCH', `/v1/photos/${edited}`, { token: author.token, json: { caption } }))
    const read = await insist((to) => to.ok<Photo>('GET', `/v1/photos/${edited}`, { token: author.token }))
    if (read.caption !== caption) t.fail(`read the caption "${read.caption}" after writing "${caption}"`)

    const method = number % 2 === 0 ? 'PUT' : 'DELETE'
    await insist((to) => to.ok(method, `/v1/accounts/${author.account.id}/follow`, { token: reader.token }))
    const feed = await insist((to) => to.all<Photo>('/v1/feed', { token: reader.token }))
    if (method === 'DELETE' && feed.length > 0) t.fail(`${feed.length} photos of an author just unfollowed`)
    const profile = await insist((to) => to.ok<Person['account']>('GET', `/v1/accounts/${author.account.id}`, { token: reader.token }))
    const followers = method === 'PUT' ? 2 : 1
    if (profile.followerCount !== followers) t.fail(`${profile.followerCount} followers instead of ${followers}`)
    if (profile.relationship?.following !== (method === 'PUT')) t.fail('the relationship is not what was just made of it')
  }

  const running = (async () => {
    for (let number = 0; !state.isStopping || number % 2 === 1; number++) {
      await round(number)
      state.roundsDone++
    }
  })()
  running.catch(() => undefined)

  return {
    photos,
    turnTo(url) {
      api = apiClient([url])
    },
    async rounds(count) {
      const until = state.roundsDone + count
      while (state.roundsDone < until) await Promise.race([wait(20), running])
    },
    async stop() {
      state.isStopping = true
      await running
    },
  }
}
