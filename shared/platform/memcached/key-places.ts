import type { PlacedKey } from './leases.ts'
import type { Rings } from './rings.ts'
import { wireKey } from './wire-key.ts'

/** Keys whose places are remembered; beyond it all are forgotten, and found again as they are asked for. */
const PLACES_MAX = 20_000

/** Finds the wire keys and nodes of keys. */
export interface KeyPlaces {
  /** @param prefix what wire keys begin with now */
  placesOf(prefix: string, keys: readonly string[]): PlacedKey[]
}

/**
 * Where keys are is a matter of arithmetic alone, and costs more than to remember it: a page asks for forty keys, and
 * pages ask for the same ones.
 */
export function createKeyPlaces(rings: Pick<Rings, 'nodeOf'>): KeyPlaces {
  const known = new Map<string, PlacedKey>()
  let knownPrefix = ''

  function placeOf(prefix: string, key: string): PlacedKey {
    const remembered = known.get(key)
    if (remembered !== undefined) return remembered
    if (known.size >= PLACES_MAX) known.clear()
    const placed = { key, wireKey: wireKey(prefix, key), node: rings.nodeOf(key) }
    known.set(key, placed)
    return placed
  }

  return {
    placesOf(prefix, keys) {
      if (prefix !== knownPrefix) known.clear()
      knownPrefix = prefix
      return keys.map((key) => placeOf(prefix, key))
    },
  }
}
