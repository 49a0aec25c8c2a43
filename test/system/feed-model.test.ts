import t, { type Test } from 'tap'
import { seededRandom } from '../../scripts/pictures/random.ts'
import { inLanes } from '../support/in-lanes.ts'
import { createModel, type Model, type Operation } from './feed-model/model.ts'
import { moveShardsBeside } from './feed-model/move-shards.ts'
import { planRound, STARS, type Random } from './feed-model/plan.ts'
import { LANES, startWorld, type World } from './feed-model/world.ts'

/**
 * Thousands of random operations over HTTP, by many people at once, with all workers running on four nodes and every lever
 * on; after each drain every feed is what a simple model says, page by page, to the end of the scroll; also while shards
 * move. `FEED_MODEL_OPERATIONS` makes it longer, `FEED_MODEL_SEED` another; what fails tells its seed.
 */
const OPERATIONS = Number(process.env.FEED_MODEL_OPERATIONS ?? 1_750)
const SEED = Number(process.env.FEED_MODEL_SEED ?? 20_261_125)
/** So many of them again while shards move. */
const MOVING_SHARE = 0.5
const PEOPLE = 24
const ROUND_OPERATIONS = 125
/** By then stars have been there and back. */
const ROUNDS_OF_TIDES = 12
const QUIET_MAX = 6
const QUIET_PER_ROUND = 2
const LIMITS = [100, 100, 30, 30, 7]
const HISTORY_TOLD = 40
/** Between a star's followers at ebb and at flood. */
const [PROMOTE_AT, DEMOTE_AT] = [17, 13]
/** Readers may know of a promotion five seconds late. */
const PULL_DELAY_SECONDS = 7

const RULES = { FAN_OUT_PROMOTE_AT: PROMOTE_AT, FAN_OUT_DEMOTE_AT: DEMOTE_AT, FAN_OUT_PULL_DELAY_SECONDS: PULL_DELAY_SECONDS }

const random = seededRandom(SEED)
const model = createModel()
const world = await startWorld(t, Object.fromEntries(Object.entries(RULES).map(([name, value]) => [name, String(value)])))
const history: string[] = []
const flips = countFlips(model)
let round = 0

function tell(done: readonly Operation[]): void {
  history.push(...done.map((operation) => `round ${round}: ${JSON.stringify(operation)}`))
}

const everybody = Array.from({ length: PEOPLE }, (_, who): Operation => ({ kind: 'sign up', who }))
for (const operation of everybody) model.apply(operation)
await world.perform(everybody)

/** Plays so many operations more, or until a feed is not what the model says. */
async function play(t: Test, operations: number): Promise<void> {
  for (const end = round + Math.ceil(operations / ROUND_OPERATIONS); round < end; ) {
    round++
    const planned = planRound(model, random, { round, count: ROUND_OPERATIONS })
    tell(planned)
    await world.perform(planned)
    await world.drain()
    flips.look()
    const wrong = await compare(model, world, random)
    if (wrong !== undefined) t.fail(`seed ${SEED}, round ${round}: ${wrong.text}\n${historyOf(history, wrong).join('\n')}`)
    if (wrong !== undefined) return
    const resting = pickResting(model, random)
    for (const operation of resting) model.apply(operation)
    tell(resting)
    await world.putToRest(resting.map(({ who }) => who))
  }
  t.pass(`seed ${SEED}`)
}

/** How often a star became one that is pulled, and how often one ceased to be. */
function countFlips(model: Model): { look(): void; readonly ups: number; readonly downs: number } {
  const isPulled = Array<boolean>(STARS).fill(false)
  let ups = 0
  let downs = 0
  return {
    look() {
      for (const [star, was] of isPulled.entries()) {
        const is = model.followers(star) >= (was ? DEMOTE_AT : PROMOTE_AT)
        if (is && !was) ups++
        if (was && !is) downs++
        isPulled[star] = is
      }
    },
    get ups() {
      return ups
    },
    get downs() {
      return downs
    },
  }
}

t.test('every feed is what a model says, on four nodes with every lever on', async (t) => {
  await play(t, OPERATIONS)
  for (const [lever, uses] of Object.entries(await world.countLeverUses())) t.ok(uses > 0, `${lever}: ${uses} uses`)
  if (round < ROUNDS_OF_TIDES) return
  t.ok(flips.ups > 0 && flips.downs > 0, `stars crossed the threshold ${flips.ups} times upwards, ${flips.downs} times downwards`)
  t.ok((await world.countPulled()) > 0, 'some photos were left to their readers')
})

t.test('also while shards move', async (t) => {
  const mover = moveShardsBeside(world, SEED)
  await play(t, OPERATIONS * MOVING_SHARE)
  const moved = await mover.stop()
  t.ok(moved > 0, `${moved} shards changed nodes`)
})

/** People who are away from now on. */
function pickResting(model: Model, random: Random): { readonly kind: 'go quiet'; readonly who: number }[] {
  const awake = Array.from({ length: model.people }, (_, who) => who).filter((who) => !model.quiet.has(who))
  const chosen = new Set<number>()
  for (let i = 0; i < QUIET_PER_ROUND && model.quiet.size + chosen.size < QUIET_MAX; i++) {
    chosen.add(awake[Math.floor(random() * awake.length)] ?? 0)
  }
  return [...chosen].map((who) => ({ kind: 'go quiet', who }))
}

interface Wrong {
  readonly text: string
  readonly who: number
  readonly photos: readonly number[]
}

/** Reads every feed but of those who are away; now and then also theirs, which brings them back. */
async function compare(model: Model, world: World, random: Random): Promise<Wrong | undefined> {
  const places = await world.readPlaces()
  const readers = Array.from({ length: model.people }, (_, who) => who).flatMap((who) => {
    const limit = LIMITS[Math.floor(random() * LIMITS.length)] ?? 30
    if (model.quiet.has(who)) {
      if (random() < 0.7) return []
      model.apply({ kind: 'return', who })
    }
    return [{ who, limit }]
  })
  const wrong: Wrong[] = []
  await inLanes(readers, LANES, async ({ who, limit }) => {
    const found = await world.readFeed(who, limit)
    const place = (photo: number): bigint => places.get(photo) ?? 0n
    const expected = model.feed(who).sort((a, b) => (place(a) > place(b) ? -1 : 1))
    if (found.join() !== expected.join()) {
      const missing = expected.filter((photo) => !found.includes(photo))
      const extra = found.filter((photo, at) => !expected.includes(photo) || found.indexOf(photo) !== at)
      const text = `the feed of ${who} in pages of ${limit} lacks [${missing.join()}], has too many [${extra.join()}]: ${found.join()}`
      wrong.push({ text, who, photos: [...missing, ...extra] })
    }
    const followees = (await world.readFollowees(who)).toSorted((a, b) => a - b).join()
    const chosen = [...model.followees(who)].toSorted((a, b) => a - b).join()
    if (followees !== chosen) wrong.push({ text: `${who} follows ${followees}, not ${chosen}`, who, photos: [] })
    const profile = await world.readProfile(who)
    const photoCount = model.photos.filter(({ author, state }) => author === who && state === 'published').length
    const counts = [profile.photoCount, profile.followerCount, profile.followingCount].join()
    const right = [photoCount, model.followers(who), model.followees(who).size].join()
    if (counts !== right) wrong.push({ text: `the counts of ${who} are ${counts}, not ${right}`, who, photos: [] })
  })
  return wrong[0]
}

/** What happened to the photos and to how the reader and their authors stand. */
function historyOf(history: readonly string[], { who, photos }: Wrong): string[] {
  const mentions = [`"photo":(${photos.join('|')})\\b`, `"who":${who}\\b.*"whom"`, `quiet","who":${who}\\b`, `return","who":${who}\\b`]
  const pattern = new RegExp((photos.length > 0 ? mentions : mentions.slice(1)).join('|'))
  return history.filter((line) => pattern.test(line)).slice(-HISTORY_TOLD)
}
