/** The versions of the map with which a node's shards were last seen to be others. */
export interface NodeChanges {
  /** A shard has come. */
  readonly arrived: bigint
  /** A shard has come or gone. */
  readonly changed: bigint
}
