/** A shard that cannot be moved as things are, though its nodes are well. */
export class ShardRefusedError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ShardRefusedError'
  }
}
