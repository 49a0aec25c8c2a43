import {
  DIHEDRAL_VARIANTS, luminanceOf, packedHammingDistance, packPdqHash, PDQ_QUALITY_MIN, pdqDihedralHashes,
} from '#kernel/pdq.ts'
import type { Screen } from '../screen.ts'

export interface BannedHashOptions {
  /** Gives the banned PDQ hashes, 64 hex digits each. */
  readonly listHashes: () => Promise<readonly string[]>
  /** Pictures this many bits apart, or fewer, are the same. */
  readonly distanceMax: number
  /** How long a list is used before it is asked for again. */
  readonly refreshMs: number
  /** Milliseconds on a clock that never goes back. */
  readonly nowMs: () => number
}

/**
 * Rejects pictures that look like one that was banned, also when they are turned or mirrored. A picture without
 * enough detail for a hash to mean anything (a blank wall) matches nothing.
 */
export function bannedHashScreen(options: BannedHashOptions): Screen {
  const listBanned = keepFor(options.refreshMs, options.nowMs, async () => (await options.listHashes()).map(pack))
  return {
    name: 'banned-hash',
    async screen({ data, width, height, channels }) {
      const banned = await listBanned()
      const { hashes, quality } = pdqDihedralHashes(luminanceOf(data, channels), height, width)
      const detail = { pdq: hashes.original, quality }
      if (quality < PDQ_QUALITY_MIN) return { verdict: 'clean', detail }
      const own = DIHEDRAL_VARIANTS.map((variant) => ({ variant, words: packPdqHash(hashes[variant]) }))
      for (const { hash, words } of banned) {
        for (const { variant, words: ownWords } of own) {
          const distance = packedHammingDistance(words, ownWords)
          if (distance <= options.distanceMax) {
            return { verdict: 'reject', detail: { ...detail, match: { hash, distance, variant } } }
          }
        }
      }
      return { verdict: 'clean', detail }
    },
    close: () => Promise.resolve(),
  }
}

function pack(hash: string): { hash: string; words: Uint32Array } {
  return { hash, words: packPdqHash(hash) }
}

/** Calls `load` at most once per `lifeMs`; callers at the same time share a call, and a failed one is not kept. */
function keepFor<T>(lifeMs: number, nowMs: () => number, load: () => Promise<T>): () => Promise<T> {
  let kept: { value: Promise<T>; untilMs: number } | undefined
  return () => {
    if (kept === undefined || nowMs() >= kept.untilMs) {
      const value = load()
      kept = { value, untilMs: nowMs() + lifeMs }
      value.catch(() => {
        if (kept?.value === value) kept = undefined
      })
    }
    return kept.value
  }
}
