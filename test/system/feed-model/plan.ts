import type { Model, Operation } from './model.ts'

/** Whom most follow, or leave, as the tide is: so they cross the celebrity threshold, up and down. */
export const STARS = 2
const STAR_SHARE = 0.5
const TIDE_SHARE = 0.8
/** Rounds of flood, and then of ebb. */
const TIDE_ROUNDS = 2
const HELD_SHARE = 0.2
const RETURN_SHARE = 0.15
const PEOPLE_MAX = 60

/** How often each kind of operation comes, in parts of their sum. */
const WEIGHTS = { 'follow': 36, 'unfollow': 18, 'post': 26, 'delete': 8, 'decide': 8, 'sign up': 0.5 } as const

export type Random = () => number

/**
 * Thinks up operations for one round, and applies each to the model. Those of one person are in its order; those of
 * several may be done in any order, or at once, and come to the same.
 */
export function planRound(model: Model, random: Random, { round, count }: { round: number; count: number }): Operation[] {
  const isFlood = Math.floor(round / TIDE_ROUNDS) % 2 === 0
  const planned: Operation[] = []
  /** Held photos that somebody has in hand in this round, as what two do to one depends on who is first. */
  const inHand = new Set<number>()
  const heldBefore = model.photos.flatMap(({ state }, number) => (state === 'held' ? [number] : []))
  const add = (operation: Operation): void => {
    model.apply(operation)
    planned.push(operation)
  }
  const pick = (below: number): number => Math.floor(random() * below)

  /** Somebody who does something; now and then one who was away, and whom that brings back. */
  function actor(): number {
    for (;;) {
      const who = pick(model.people)
      if (!model.quiet.has(who)) return who
      if (random() >= RETURN_SHARE) continue
      add({ kind: 'return', who })
      return who
    }
  }

  function plan(kind: keyof typeof WEIGHTS): void {
    if (kind === 'sign up') {
      if (model.people < PEOPLE_MAX) add({ kind, who: model.people })
      return
    }
    if (kind === 'decide') {
      const free = heldBefore.filter((photo) => !inHand.has(photo) && model.photos[photo]?.state === 'held')
      const photo = free[pick(free.length)]
      if (photo === undefined) return
      inHand.add(photo)
      add({ kind: random() < 0.75 ? 'release' : 'reject', photo })
      return
    }
    const who = actor()
    if (kind === 'post') {
      // Stars are authors that matter to many.
      const author = random() < STAR_SHARE && !model.quiet.has(who % STARS) ? who % STARS : who
      add({ kind, who: author, photo: model.photos.length, isHeld: random() < HELD_SHARE })
    } else if (kind === 'delete') {
      const own = model.photos.flatMap(({ author, state }, number) => (author === who && state !== 'deleted' ? [number] : []))
      const photo = own[pick(own.length)]
      if (photo === undefined || inHand.has(photo)) return
      inHand.add(photo)
      add({ kind, who, photo })
    } else {
      const isStar = random() < STAR_SHARE
      const whom = isStar ? pick(STARS) : pick(model.people)
      const tide = isFlood === random() < TIDE_SHARE ? 'follow' : 'unfollow'
      // Whoever unfollows one it does not follow, or follows one again, changes nothing.
      if (whom !== who) add({ kind: isStar ? tide : kind, who, whom })
    }
  }

  const kinds = Object.entries(WEIGHTS) as [keyof typeof WEIGHTS, number][]
  const sum = kinds.reduce((total, [, weight]) => total + weight, 0)
  while (planned.length < count) {
    let at = random() * sum
    const [kind] = kinds.find(([, weight]) => (at -= weight) < 0) ?? ['follow' as const]
    plan(kind)
  }
  return planned
}
