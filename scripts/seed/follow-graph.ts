/** Whom each account follows, by index; an account's rank is its index. */
export type FollowGraph = readonly (readonly number[])[]

/** A new account follows at least so many, if there are so many. */
const FOLLOWEES_MIN = 3
/** And at most this share of all, or so many. */
const FOLLOWEES_SHARE_MAX = 0.4
const FOLLOWEES_MAX = 60

/**
 * A follow graph as social networks have it: account k is followed in proportion to 1/(k+1) (Zipf, exponent 1), so
 * the first few are followed by nearly everyone and the many by a few.
 *
 * @param random gives numbers from 0 to below 1; the same sequence gives the same graph
 */
export function zipfFollowGraph(accounts: number, random: () => number): FollowGraph {
  const cumulative: number[] = []
  let total = 0
  for (let rank = 0; rank < accounts; rank++) cumulative.push((total += 1 / (rank + 1)))

  const most = Math.min(FOLLOWEES_MAX, Math.max(FOLLOWEES_MIN, Math.floor(accounts * FOLLOWEES_SHARE_MAX)), accounts - 1)
  const least = Math.min(FOLLOWEES_MIN, most)
  return Array.from({ length: accounts }, (_, follower) => {
    const wanted = least + Math.floor(random() * (most - least + 1))
    const followees = new Set<number>()
    while (followees.size < wanted) {
      const followee = firstAbove(cumulative, random() * total)
      if (followee !== follower) followees.add(followee)
    }
    return [...followees]
  })
}

/** The index of the first value above `target` in a rising list, by bisection. */
function firstAbove(rising: readonly number[], target: number): number {
  let low = 0
  let high = rising.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if ((rising[middle] ?? Infinity) > target) high = middle
    else low = middle + 1
  }
  return low
}
