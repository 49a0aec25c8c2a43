/** At one a second: whoever is further behind than ten minutes is behind by an unknown time. */
const SAMPLES_MAX = 600

/** When a primary's log ended where: it turns a replica's position into time, also while nothing is written. */
export interface LagHistory {
  /** Notes where the log ended at a moment (of a clock that nobody sets); of one history, in order. */
  note(lsn: bigint, atMs: number): void
  /**
   * How long before the last note, at most, the log ended no further than `replayed`; undefined when it is longer than
   * what is remembered. It does not grow while nothing is noted: a primary that is away does not make replicas late.
   */
  lagMs(replayed: bigint): number | undefined
}

export function createLagHistory(): LagHistory {
  const samples: { readonly lsn: bigint; atMs: number }[] = []
  return {
    note(lsn, atMs) {
      const last = samples.at(-1)
      if (last?.lsn === lsn) {
        last.atMs = atMs
        return
      }
      samples.push({ lsn, atMs })
      if (samples.length > SAMPLES_MAX) samples.shift()
    },
    lagMs(replayed) {
      const then = samples.findLast(({ lsn }) => lsn <= replayed)
      const now = samples.at(-1)
      return then === undefined || now === undefined ? undefined : now.atMs - then.atMs
    },
  }
}
