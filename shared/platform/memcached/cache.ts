/** Fetches from the primary what a cache does not have; a null says that the thing does not exist. */
export type Fill = (missing: string[]) => Promise<ReadonlyMap<string, Buffer | null>>

/** A stale value that every safeguard missed ends here. */
export const LIFE_SECONDS_MAX = 600

export interface ReadOptions {
  /** How long a value may be kept: at most, and by default, 10 minutes. Rounded up to whole seconds. */
  readonly lifeMs?: number
}

/**
 * Bytes kept in front of the database. Nothing here throws or waits long because a cache is slow, wrong or away: it is
 * then as if nothing had been kept.
 */
export interface Cache {
  /** False when the lever is off: nothing is kept, and no invalidation needs to be recorded. */
  readonly isEnabled: boolean
  /**
   * Reads keys, fetching by `fill` what is not kept. `fill` is called only when the right to store what it brings has
   * been won (or when it will not be stored), so it must read the primary, and must not join a batch of reads that has
   * been sent before the call. It may be called twice for one read, with other keys.
   *
   * @param keys one that is there twice is fetched once
   * @param fill a key that it leaves out is not kept
   * @returns in the order of the keys; undefined for one that does not exist. The bytes may share memory with others, so
   *   they are not to be changed
   * @throws what `fill` throws
   */
  readMany(keys: readonly string[], fill: Fill, options?: ReadOptions): Promise<(Buffer | undefined)[]>
  /** The same for one key. */
  read(key: string, fill: () => Promise<Buffer | null>, options?: ReadOptions): Promise<Buffer | undefined>
  /**
   * Forgets keys on every ring, and voids the leases on them. To be called after the commit and awaited before the
   * change is acknowledged.
   * @returns the keys for which some server did not confirm: these must be deleted again
   */
  delete(keys: readonly string[]): Promise<string[]>
  /**
   * Counts an event in the present window of `windowMs`, which begins at a multiple of that since the Unix epoch.
   * @param by how much it counts, by default 1; below 0 it takes back, and never makes the count negative
   * @returns how many there were in it so far, by all processes; undefined when the cache cannot tell
   */
  increment(key: string, windowMs: number, by?: number): Promise<number | undefined>
  /** Settles when what is being stored in the background has been stored or given up. */
  idle(): Promise<void>
  close(): Promise<void>
}

/** The lever off: every read is its fill. */
export const noCache: Cache = {
  isEnabled: false,
  async readMany(keys, fill) {
    if (keys.length === 0) return []
    const found = await fill([...new Set(keys)])
    return keys.map((key) => found.get(key) ?? undefined)
  },
  read: async (_key, fill) => (await fill()) ?? undefined,
  delete: () => Promise.resolve([]),
  increment: () => Promise.resolve(undefined),
  idle: () => Promise.resolve(),
  close: () => Promise.resolve(),
}
