/** Where a read went that replicas may serve. */
export type ReadTarget =
  /** To a replica. */
  | 'replica'
  /** To the primary: the reader needs more than replicas are known to have, or its shard is on the move. */
  | 'primary'
  /** To the primary, since nobody may read any replica now, or the one that was asked failed. */
  | 'displaced'
  /** Nowhere: too many displaced reads are under way. */
  | 'shed'

/** What a router tells of its replicas. */
export interface ReplicaMetrics {
  read(node: string, target: ReadTarget): void
  /** @param lag undefined while it is not known */
  replica(name: string, state: { readonly inRotation: boolean; readonly lag: ReplicaLag | undefined }): void
}

export interface ReplicaLag {
  readonly bytes: number
  /** At most so long ago the primary had no more than the replica has now. */
  readonly ms: number
}

export const noReplicaMetrics: ReplicaMetrics = { read: () => {}, replica: () => {} }
