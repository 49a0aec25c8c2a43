import { setTimeout as wait } from 'node:timers/promises'
import type { Test } from 'tap'
import { makePicture } from '../../scripts/pictures/make-picture.ts'
import { apiClient, uploadForm, type ApiClient, type Person, type Photo } from '../support/api-client.ts'
import type { Monogram } from '../support/monogram.ts'
import { PROCESS_TYPES } from '../support/processes.ts'

/** People who use a Monogram while its settings change. */
export interface Traffic {
  readonly photos: string[]
  /** True while followers are counted anew: profiles are not compared then. */
  isRecounting: boolean
  /** Sends requests elsewhere from now on. */
  turnTo(url: string): void
  /** Settles after so many more rounds. */
  rounds(count: number): Promise<void>
  /** Ends it. @throws what a round found wrong */
  stop(): Promise<void>
}

/** Starts each type anew with `env`, then lets the old one leave: web last, so that its successors can work. */
export async function replaceAll(monogram: Monogram, traffic: Traffic, env: Record<string, string>): Promise<void> {
  for (const type of PROCESS_TYPES.toReversed()) {
    const [old] = monogram.processes[type]
    const started = await monogram.start(type, env)
    if (type === 'web') traffic.turnTo(`http://127.0.0.1:${started.port ?? 0}`)
    await old?.kill('SIGTERM')
    monogram.processes[type] = [started]
  }
}

/** One person posts and edits, another follows and unfollows; each checks at once that it reads its own change. */
export async function startTraffic(t: Test, monogram: Monogram): Promise<Traffic> {
  let api: ApiClient = apiClient(monogram.urls)
  const [author, reader] = [await api.signUp('author'), await api.signUp('reader')]
  const fan = await api.signUp('fan')
  await api.ok('PUT', `/v1/accounts/${author.account.id}/follow`, { token: fan.token })
  const picture = await makePicture({ seed: 1, width: 200, height: 150 })
  const photos: string[] = []
  const state = { roundsDone: 0, isStopping: false, isRecounting: false }

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
    // Others are shown it once it is published, and then never what was before.
    const shown = await insist((to) => to.call<Photo>('GET', `/v1/photos/${edited}`, { token: fan.token }))
    if (shown.status === 200 && shown.body.caption !== caption) t.fail(`showed the caption "${shown.body.caption}" after "${caption}" was written`)

    const method = number % 2 === 0 ? 'PUT' : 'DELETE'
    await insist((to) => to.ok(method, `/v1/accounts/${author.account.id}/follow`, { token: reader.token }))
    const feed = await insist((to) => to.all<Photo>('/v1/feed', { token: reader.token }))
    if (method === 'DELETE' && feed.length > 0) t.fail(`${feed.length} photos of an author just unfollowed`)
    const isExact = !state.isRecounting
    const profile = await insist((to) => to.ok<Person['account']>('GET', `/v1/accounts/${author.account.id}`, { token: reader.token }))
    const followers = method === 'PUT' ? 2 : 1
    if (isExact && !state.isRecounting && profile.followerCount !== followers) t.fail(`${profile.followerCount} followers instead of ${followers}`)
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
    get isRecounting() {
      return state.isRecounting
    },
    set isRecounting(is) {
      state.isRecounting = is
    },
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
