interface Version<T> {
  readonly value: T
  readonly issuedMs: number
  acknowledgedMs: number
}

/** A value that one client writes over and over, and that others read meanwhile; times are of performance.now(). */
export interface Register<T> {
  readonly current: T
  /** Writes a value and remembers when it was sent and when it was acknowledged. */
  write(value: T, send: () => Promise<unknown>): Promise<void>
  /**
   * Whether a read may have found that value: one that was acknowledged last when the read began, or that was on its
   * way while it lasted.
   *
   * @param value null is none that it can hold
   * @param knownMs when the read began; earlier, if an older value is to pass too
   * @param endMs when it ended
   */
  mayHold(value: T | null, knownMs: number, endMs: number): boolean
}

/** Makes a register that has held `first` for ever. */
export function createRegister<T>(first: T): Register<T> {
  const versions: Version<T>[] = [{ value: first, issuedMs: -Infinity, acknowledgedMs: -Infinity }]
  return {
    get current() {
      return versions.at(-1)?.value ?? first
    },
    async write(value, send) {
      const version = { value, issuedMs: performance.now(), acknowledgedMs: Infinity }
      versions.push(version)
      await send()
      version.acknowledgedMs = performance.now()
    },
    mayHold(value, knownMs, endMs) {
      const oldest = versions.findLastIndex(({ acknowledgedMs }) => acknowledgedMs <= knownMs)
      return versions.some((version, at) => at >= oldest && version.issuedMs <= endMs && version.value === value)
    },
  }
}
