/** A simple Monogram in memory: who follows whom, and what became of each photo. People and photos go by number. */
export interface Model {
  readonly people: number
  readonly photos: readonly ModelPhoto[]
  /** Whom a person follows. */
  followees(who: number): ReadonlySet<number>
  followers(whom: number): number
  /** Those who have not been seen for a month. */
  readonly quiet: ReadonlySet<number>
  apply(operation: Operation): void
  /** The photos that a person's feed must have, by number, in no order. */
  feed(who: number): number[]
}

export interface ModelPhoto {
  readonly author: number
  state: 'published' | 'held' | 'rejected' | 'deleted'
}

export type Operation =
  | { readonly kind: 'sign up'; readonly who: number }
  | { readonly kind: 'follow' | 'unfollow'; readonly who: number; readonly whom: number }
  | { readonly kind: 'post'; readonly who: number; readonly photo: number; readonly isHeld: boolean }
  | { readonly kind: 'delete'; readonly who: number; readonly photo: number }
  | { readonly kind: 'release' | 'reject'; readonly photo: number }
  | { readonly kind: 'go quiet' | 'return'; readonly who: number }

export function createModel(): Model {
  const following: Set<number>[] = []
  const photos: ModelPhoto[] = []
  const quiet = new Set<number>()

  function photoOf(number: number): ModelPhoto {
    const photo = photos[number]
    if (photo === undefined) throw new RangeError(`there is no photo ${number}`)
    return photo
  }

  function apply(operation: Operation): void {
    switch (operation.kind) {
      case 'sign up':
        following.push(new Set())
        return
      case 'follow':
        following[operation.who]?.add(operation.whom)
        return
      case 'unfollow':
        following[operation.who]?.delete(operation.whom)
        return
      case 'post':
        photos.push({ author: operation.who, state: operation.isHeld ? 'held' : 'published' })
        return
      case 'delete':
        photoOf(operation.photo).state = 'deleted'
        return
      case 'release':
        photoOf(operation.photo).state = 'published'
        return
      case 'reject':
        photoOf(operation.photo).state = 'rejected'
        return
      case 'go quiet':
        quiet.add(operation.who)
        return
      case 'return':
        quiet.delete(operation.who)
    }
  }

  const followees = (who: number): ReadonlySet<number> => following[who] ?? new Set()
  return {
    get people() {
      return following.length
    },
    photos,
    quiet,
    followees,
    followers: (whom) => following.filter((set) => set.has(whom)).length,
    apply,
    feed(who) {
      const shown = followees(who)
      return photos.flatMap(({ author, state }, number) => (state === 'published' && shown.has(author) ? [number] : []))
    },
  }
}
