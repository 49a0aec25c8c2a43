import type { CacheMetrics } from './cache-metrics.ts'
import type { CacheNode } from './cache-node.ts'
import type { Fill } from './cache.ts'
import { createLeases, type Lease, type PlacedKey } from './leases.ts'
import { encodeDelete } from './packets.ts'

/** What one look at the cache found. */
interface Look {
  /** In the order of the keys; undefined also for what is not known yet. */
  readonly values: (Buffer | undefined)[]
  readonly missing: PlacedKey[]
  /** Others are fetching these. */
  readonly leased: PlacedKey[]
  readonly down: PlacedKey[]
}

export interface LeasedReads {
  /** Reads keys that are placed already; see `Cache.readMany`. */
  read(placed: readonly PlacedKey[], fill: Fill, lifeSeconds: number): Promise<(Buffer | undefined)[]>
  /** Settles when every value that is being stored has been. */
  idle(): Promise<void>
}

export interface LeasedReadsOptions {
  readonly metrics: CacheMetrics
  /** Pauses between looks for what another reader fetches; after the last it is read without being stored. */
  readonly waitStepsMs?: readonly number[]
}

/** Together 45 ms: an answer is not to be late by more than 50. */
const WAIT_STEPS_MS = [3, 6, 12, 24]
const ABSENT_SECONDS = 5
/** For what is fetched here: a fetch that takes longer has met a database that does not answer. */
const OWN_FETCH_MS = 1_000

export function createLeasedReads({ metrics, waitStepsMs = WAIT_STEPS_MS }: LeasedReadsOptions): LeasedReads {
  const leases = createLeases()
  const storing = new Set<Promise<void>>()

  function store(lease: Lease, bytes: Buffer | null | undefined, lifeSeconds: number): void {
    const stored =
      bytes === undefined
        ? lease.release()
        : bytes === null
          ? lease.store({ kind: 'absent' }, Math.min(ABSENT_SECONDS, lifeSeconds))
          : lease.store({ kind: 'value', bytes }, lifeSeconds)
    const tracked = stored.finally(() => storing.delete(tracked))
    storing.add(tracked)
  }

  /** Looks for every key, one multi-get per node. */
  async function look(placed: readonly PlacedKey[]): Promise<Look> {
    const values = new Array<Buffer | undefined>(placed.length).fill(undefined)
    const seen: Look = { values, missing: [], leased: [], down: [] }
    let hits = 0
    let absent = 0
    const group = async (node: CacheNode, keys: readonly PlacedKey[], places: readonly number[] | undefined): Promise<void> => {
      const answers = await node.getMany(keys)
      if (answers === undefined) {
        seen.down.push(...keys)
        return
      }
      for (const [at, one] of keys.entries()) {
        const answer = answers[at]
        if (answer?.kind === 'value') {
          values[places?.[at] ?? at] = answer.bytes
          hits++
        } else if (answer?.kind === 'absent') absent++
        else if (answer?.kind === 'lease') seen.leased.push(one)
        else {
          seen.missing.push(one)
          if (answer?.kind === 'corrupt') await forgetCorrupt(one, answer.cas)
        }
      }
    }
    const [first] = placed
    // Most often there is one node, and one key: nothing is to be sorted then.
    if (first !== undefined && placed.every(({ node }) => node === first.node)) await group(first.node, placed, undefined)
    else {
      await Promise.all(
        [...placesByNode(placed)].map(([node, places]) => group(node, places.map((at) => placed[at] as PlacedKey), places)),
      )
    }
    if (hits > 0) metrics.read('hit', hits)
    if (absent > 0) metrics.read('absent', absent)
    return seen
  }

  /** Bytes that are not ours to read must go, or nobody could put a placeholder there. */
  async function forgetCorrupt({ node, wireKey }: PlacedKey, cas: Buffer): Promise<void> {
    metrics.failure(node.name, 'corrupt')
    await node.command((opaque) => encodeDelete(wireKey, opaque, cas))
  }

  /** Fetches keys, those of the leases to be stored; begins only now, when all the leases are granted. */
  async function fetch(
    won: readonly Lease[],
    unstored: readonly PlacedKey[],
    found: Map<string, Buffer>,
    fill: Fill,
    lifeSeconds: number,
  ): Promise<void> {
    const keys = [...won, ...unstored].map(({ key }) => key)
    let fetched: ReadonlyMap<string, Buffer | null>
    try {
      fetched = await fill(keys)
    } catch (error) {
      for (const lease of won) store(lease, undefined, lifeSeconds)
      throw error
    }
    for (const key of keys) {
      const bytes = fetched.get(key)
      if (bytes !== null && bytes !== undefined) found.set(key, bytes)
    }
    for (const lease of won) store(lease, fetched.get(lease.key), lifeSeconds)
    if (won.length > 0) metrics.read('filled', won.length)
  }

  /**
   * Waits before the next look. What this very process fetches is worth waiting for to its end: another fetch would
   * take as long, and a busy process would make a thousand of them.
   */
  async function pause(waiting: readonly PlacedKey[], ms: number): Promise<void> {
    const here = waiting.map(({ wireKey }) => leases.over(wireKey))
    const isOurs = here.every((over) => over !== undefined)
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, isOurs ? OWN_FETCH_MS : ms)
      if (!isOurs) return
      void Promise.all(here).then(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  async function read(placed: readonly PlacedKey[], fill: Fill, lifeSeconds: number): Promise<(Buffer | undefined)[]> {
    const seen = await look(placed)
    if (seen.missing.length + seen.leased.length + seen.down.length === 0) return seen.values
    const fetched = await fetchUnknown(seen, fill, lifeSeconds)
    return seen.values.map((value, at) => value ?? fetched.get(placed[at]?.key ?? ''))
  }

  /** Fetches what a look did not find, or waits for those who do. */
  async function fetchUnknown(first: Look, fill: Fill, lifeSeconds: number): Promise<ReadonlyMap<string, Buffer>> {
    const found = new Map<string, Buffer>()
    const fetches: Promise<void>[] = []
    let seen = first
    for (let looks = 0; ; looks++) {
      const missing = [...new Set(seen.missing)]
      const won: Lease[] = []
      const lost = new Set(seen.leased)
      const unstored = new Set(seen.down)
      const asked = await Promise.all(missing.map((one) => leases.acquire(one)))
      for (const [at, one] of missing.entries()) {
        const lease = asked[at]
        if (lease === 'lost') lost.add(one)
        else if (lease === 'down' || lease === undefined) unstored.add(one)
        else won.push(lease)
      }
      if (unstored.size > 0) metrics.read('down', unstored.size)
      const waitMs = waitStepsMs[looks]
      if (waitMs === undefined && lost.size > 0) {
        metrics.read('waited', lost.size)
        for (const one of lost) unstored.add(one)
      }
      if (won.length + unstored.size > 0) {
        const fetching = fetch(won, [...unstored], found, fill, lifeSeconds)
        // Awaited below; until then a failure must not count as unhandled.
        fetching.catch(() => undefined)
        fetches.push(fetching)
      }
      if (waitMs === undefined || lost.size === 0) break
      const waiting = [...lost]
      await pause(waiting, waitMs)
      seen = await look(waiting)
      for (const [at, value] of seen.values.entries()) if (value !== undefined) found.set(waiting[at]?.key ?? '', value)
    }
    await Promise.all(fetches)
    return found
  }

  return {
    read,
    async idle() {
      while (storing.size > 0) await Promise.all(storing)
    },
  }
}

function placesByNode(placed: readonly PlacedKey[]): Map<CacheNode, number[]> {
  const groups = new Map<CacheNode, number[]>()
  for (const [at, { node }] of placed.entries()) {
    const group = groups.get(node)
    if (group === undefined) groups.set(node, [at])
    else group.push(at)
  }
  return groups
}
