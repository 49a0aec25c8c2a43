/** The numbers of our advisory locks, all in one place so that no two are the same. All of them end with a transaction. */
export const ADVISORY_LOCKS = {
  /** One migration of a node at a time. */
  migration: 7300,
  /** With the shard as a second number: shared by its writers, exclusive to who moves it. A literal in 0001-shards. */
  door: 7301,
  /** One mover of shards at a time; held in the directory. */
  moveShards: 7303,
  /** Grants, renewals and house-keeping of id leases. */
  idLedger: 7302,
  /** Whoever makes, detaches or drops a partition of feed_entries. */
  feedPartitions: 7310,
  /** One reconciler of photos on a node. */
  reconcilePhotos: 7320,
  /** One reconciler of follows on a node. */
  reconcileFollows: 7321,
  /** One reconciler of feeds on a node. */
  reconcileFeeds: 7322,
} as const
