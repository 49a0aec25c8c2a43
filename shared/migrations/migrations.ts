import type { Migration } from '#platform/postgres/migrate.ts'
import { shards } from './0001-shards.ts'
import { idLedger } from './0002-id-ledger.ts'
import { outbox } from './0003-outbox.ts'
import { accounts } from './0004-accounts.ts'
import { follows } from './0005-follows.ts'
import { photos } from './0006-photos.ts'
import { feed } from './0007-feed.ts'
import { counters } from './0008-counters.ts'
import { idempotency } from './0009-idempotency.ts'
import { cache } from './0010-cache.ts'
import { anonymousIdempotency } from './0011-anonymous-idempotency.ts'
import { feedRebuild } from './0012-feed-rebuild.ts'
import { shardMoves } from './0013-shard-moves.ts'
import { dormantAccounts } from './0014-dormant-accounts.ts'
import { moderation } from './0015-moderation.ts'
import { pulledAuthors } from './0016-pulled-authors.ts'
import { rowsByShard } from './0017-rows-by-shard.ts'
import { nodeWeights } from './0018-node-weights.ts'

/** Every change of the schema, oldest first. A migration that has shipped is never edited. */
export const migrations: readonly Migration[] = [
  shards,
  idLedger,
  outbox,
  accounts,
  follows,
  photos,
  feed,
  counters,
  idempotency,
  cache,
  anonymousIdempotency,
  feedRebuild,
  shardMoves,
  dormantAccounts,
  moderation,
  pulledAuthors,
  rowsByShard,
  nodeWeights,
]
