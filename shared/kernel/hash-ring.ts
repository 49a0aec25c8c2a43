import { murmur3 } from './murmur3.ts'

/** How many points a node of weight 1 has on the ring: ketama's number, which keeps shares within some percent. */
const POINTS_PER_NODE = 160

/** A built ring: points in ascending order, and beside each the index of its node. */
export interface Ring {
  readonly names: readonly string[]
  readonly points: Uint32Array
  readonly owners: Uint16Array
}

/**
 * Builds a consistent-hash ring, ketama's way (Richard Jones, last.fm, 2007) with MurmurHash3 in place of MD5.
 * The order of the names does not matter. A node's points depend on its own name and weight only, so adding one to
 * n nodes moves about 1/(n + 1) of the keys, all of them to the new node.
 * @param names distinct names of the nodes, at least one.
 * @param weights shares other than 1, by name: 2 takes twice the keys. Above 0.
 * @throws RangeError if there are no names, a name comes twice or a weight is not above 0.
 */
export function buildRing(names: readonly string[], weights: ReadonlyMap<string, number> = new Map()): Ring {
  if (names.length === 0) throw new RangeError('a ring needs at least one node')
  // Sorted, so that the owner of a point that two nodes share does not depend on the order of the configuration.
  const sorted = [...new Set(names)].sort()
  if (sorted.length !== names.length) throw new RangeError('a node is named twice')

  const placed = sorted.flatMap((name, owner) => pointsOf(name, weights.get(name) ?? 1).map((point) => ({ point, owner })))
  placed.sort((a, b) => a.point - b.point || a.owner - b.owner)
  return {
    names: sorted,
    points: Uint32Array.from(placed, ({ point }) => point),
    owners: Uint16Array.from(placed, ({ owner }) => owner),
  }
}

/** The name of the node that a key belongs to: the owner of the first point at or after the key's hash. */
export function placeKey(ring: Ring, key: string): string {
  const hash = murmur3(key)
  let low = 0
  let high = ring.points.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((ring.points[middle] ?? 0) < hash) low = middle + 1
    else high = middle
  }
  const owner = ring.owners[low === ring.points.length ? 0 : low] ?? 0
  return ring.names[owner] ?? ''
}

function pointsOf(name: string, weight: number): number[] {
  if (!(weight > 0)) throw new RangeError(`the weight of ${name} must be above 0`)
  const count = Math.max(1, Math.round(POINTS_PER_NODE * weight))
  return Array.from({ length: count }, (_, i) => murmur3(`${name}-${String(i)}`))
}
