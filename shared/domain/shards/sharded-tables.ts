import type { Shard } from '#kernel/snowflake.ts'
import type { ReplicatedTable, ShardedTable, ShardedTables } from '#platform/postgres/shard-moves/sharded-table.ts'
import type { AccountsTable } from '../accounts/accounts.table.ts'
import { raisedColumns } from '../feed/feed.rebuild.ts'
import { copiedFloor } from '../feed/feed.rules.ts'

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

const accounts = byId('accounts')

const photos: ReplicatedTable = { ...byId('photos'), published: (shard) => `((id >> 10) & 8191) = ${shard}` }

const follows: ReplicatedTable = {
  ...byAccount('follows', 'follower_id', ['follower_id', 'followee_id']),
  published: (shard) => `((follower_id >> 10) & 8191) = ${shard}`,
}

/** What becomes of the tables of a logical shard that changes nodes. */
export const SHARDED_TABLES: ShardedTables = {
  moved: [
    accounts,
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

const ACCOUNT_COLUMNS: Record<keyof AccountsTable, string> = {
  id: 'r.id',
  status: 'r.status',
  role: 'r.role',
  username: 'r.username',
  display_name: 'r.display_name',
  bio: 'r.bio',
  email: 'r.email',
  private: 'r.private',
  feed_floor: 'r.feed_floor',
  feed_raises: 'r.feed_raises',
  rebuild_asked_at: 'r.rebuild_asked_at',
  last_seen_at: 'r.last_seen_at',
  pull_from: 'r.pull_from',
  pull_epoch: 'r.pull_epoch',
  dormant: 'r.dormant',
  created_at: 'r.created_at',
}

/**
 * The tables for a move of one shard that begins at `nowMs`: floors are raised as accounts are copied, while nobody waits
 * for it, and not all at once when the shard arrives. See `arrive-shard.ts`.
 */
export function tablesOfMove(nowMs: number): ShardedTables {
  const columns = { ...ACCOUNT_COLUMNS, ...raisedColumns(copiedFloor(nowMs), nowMs) }
  const list = Object.entries(columns).map(([name, value]) => `${value} as ${name}`).join(', ')
  const rows = (shard: Shard): string => `select ${list} from accounts as r where ${accounts.ofShard(shard)}`
  return { ...SHARDED_TABLES, moved: SHARDED_TABLES.moved.map((table) => (table === accounts ? { ...accounts, rows } : table)) }
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
