import { murmur3 } from './murmur3.ts'
import { SHARD_COUNT, type Shard } from './snowflake.ts'

/**
 * The logical shard of what routes by name (usernames, email addresses, tags, anonymous idempotency keys):
 * the low 13 bits of MurmurHash3_x86_32, seed 0, of the lower-cased name in UTF-8.
 * Rows are stored by it, so it must never change; PostgreSQL's own hash may change between versions.
 */
export function shardOfName(name: string): Shard {
  return murmur3(name.toLowerCase()) % SHARD_COUNT
}
