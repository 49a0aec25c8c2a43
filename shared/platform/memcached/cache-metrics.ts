/** How a read of one key ended: `waited` and `down` were answered by the source without being stored. */
export type ReadEnd = 'hit' | 'absent' | 'filled' | 'waited' | 'down'

/** Where the cache reports its counts; the metrics folder implements it. */
export interface CacheMetrics {
  read(end: ReadEnd, count: number): void
  /** Commands written to a node, the quiet ones included, and the writes that carried gets. */
  commands(count: number): void
  multiGet(): void
  /** Why a node failed to do its work; a late answer fails the connection; of deletes each that is left to be redone. */
  failure(node: string, reason: CacheFailure): void
  /** True: the node is left alone until it answers a probe. */
  breaker(node: string, isOpen: boolean): void
}

export type CacheFailure = 'connection' | 'overload' | 'corrupt' | 'delete'

export const noCacheMetrics: CacheMetrics = { read() {}, commands() {}, multiGet() {}, failure() {}, breaker() {} }
