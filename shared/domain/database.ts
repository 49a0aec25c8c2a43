import type { Kysely, Transaction } from 'kysely'
import type { Router } from '#platform/postgres/router.ts'
import type {
  AccountsTable,
  CredentialsTable,
  EmailsTable,
  SessionsTable,
  UsernamesTable,
} from './accounts/accounts.table.ts'
import type { CounterDeltasTable, CountersTable } from './counters/counters.table.ts'
import type { FanoutCursorsTable, FeedEntriesTable } from './feed/feed.table.ts'
import type { PulledAuthorsTable } from './feed/pulled-authors.table.ts'
import type { FollowsTable } from './follows/follows.table.ts'
import type { AnonymousIdempotencyKeysTable, IdempotencyKeysTable } from './idempotency/idempotency.table.ts'
import type { BannedHashesTable, PhotosTable } from './photos/photos.table.ts'

/** The domain's tables, as every node has them. The platform keeps its own (outbox, ledger, shard map) to itself. */
export interface Database {
  accounts: AccountsTable
  credentials: CredentialsTable
  sessions: SessionsTable
  usernames: UsernamesTable
  emails: EmailsTable
  follows: FollowsTable
  photos: PhotosTable
  banned_hashes: BannedHashesTable
  feed_entries: FeedEntriesTable
  fanout_cursors: FanoutCursorsTable
  pulled_authors: PulledAuthorsTable
  counters: CountersTable
  counter_deltas: CounterDeltasTable
  idempotency_keys: IdempotencyKeysTable
  anonymous_idempotency_keys: AnonymousIdempotencyKeysTable
}

/** A handle that reads one node, in or out of a transaction. */
export type Db = Kysely<Database>
/** A transaction that came through the write door of its shard. */
export type Trx = Transaction<Database>
export type AppRouter = Router<Database>
