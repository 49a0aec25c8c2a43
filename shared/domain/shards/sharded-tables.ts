import type { Shard } from '#kernel/snowflake.ts'
import type { ReplicatedTable, ShardedTable, ShardedTables } from '#platform/postgres/shard-moves/sharded-table.ts'

/** Rows that their own id routes. */
function byId(name: string): ShardedTable {
  return { name, key: ['id'], ofShard: (shard) => `((r.id >> 10) & 8191) = ${shard}`, spread: 'hashint8(r.id)' }
}

/** Rows that the id of an account routes, found through an index that begins with it. */
function byAccount(name: string, column: string, key: readonly string[]): ShardedTable {
  return { name, key, ofShard: (shard) => isOfAccounts(column, shard), spread: `hashint8(r.${column})` }
}

/** Rows that route by the hash of a text, and store their shard. */
function byText(name: string, column: string): ShardedTable {
  return { name, key: [column], ofShard: (shard) => `r.shard = ${shard}`, spread: `hashtext(r.${column})` }
}

function isOfAccounts(column: string, shard: Shard): string {
  return `r.${column} = any (array(select id from accounts where ((id >> 10) & 8191) = ${shard}))`
}

/** Followers are counted where their follows are, on any node, and summed up: their counts stay where they are. */
const isMovedCount = (shard: Shard): string => `r.kind <> 'followers' and ${isOfAccounts('subject_id', shard)}`

/** What was not yet added up is so on the way. */
const counters: ShardedTable = {
  name: 'counters',
  key: ['subject_id', 'kind'],
  ofShard: isMovedCount,
  spread: 'hashint8(r.subject_id)',
  rows: (shard) => `select subject_id, kind, sum(amount)::bigint as total from (
      select r.subject_id, r.kind, r.total as amount from counters as r where ${isMovedCount(shard)}
      union all select r.subject_id, r.kind, r.delta from counter_deltas as r where ${isMovedCount(shard)}
    ) as parts group by subject_id, kind`,
}

const photos: ReplicatedTable = { ...byId('photos'), published: (shard) => `((id >> 10) & 8191) = ${shard}` }

const follows: ReplicatedTable = {
  ...byAccount('follows', 'follower_id', ['follower_id', 'followee_id']),
  published: (shard) => `((follower_id >> 10) & 8191) = ${shard}`,
}

/** What becomes of the tables of a logical shard that changes nodes. */
export const SHARDED_TABLES: ShardedTables = {
  moved: [
    byId('accounts'),
    byAccount('credentials', 'account_id', ['account_id']),
    byAccount('sessions', 'account_id', ['account_id', 'id']),
    photos,
    follows,
    byAccount('idempotency_keys', 'account_id', ['account_id', 'key']),
    counters,
    byText('usernames', 'username'),
    byText('emails', 'email'),
    byText('anonymous_idempotency_keys', 'key'),
  ],
  replicated: [photos, follows],
  left: [
    { name: 'counter_deltas', key: ['id'], ofShard: isMovedCount, spread: 'hashint8(r.subject_id)' },
    // Rebuilt where the shard arrives: see `arrive-shard.ts`.
    byAccount('feed_entries', 'account_id', ['account_id', 'published_id']),
  ],
}

/** Tables that belong to a node, or to the directory: no logical shard takes their rows along. */
export const UNSHARDED_TABLES: readonly string[] = [
  'banned_hashes',
  'cache_invalidations',
  'cache_state',
  'cache_users',
  'dead_letters',
  // Of a photo's fan-out on this very node.
  'fanout_cursors',
  'id_leases',
  'id_ledger_state',
  'node_weights',
  'outbox',
  // Of the directory, as readers of every node need it.
  'pulled_authors',
  'schema_migrations',
  'shard_map',
  'shard_map_version',
  'shard_moves',
  'shard_state',
]
