import { sql } from 'kysely'
import type { Migration } from '#platform/postgres/migrate.ts'

/** In the directory: how readily new accounts go to the shards of a node, in per cent of others. */
export const nodeWeights: Migration = {
  name: '0018-node-weights',
  async up(trx) {
    await sql`create table node_weights (
      node text primary key,
      weight smallint not null check (weight between 0 and 100)
    )`.execute(trx)
  },
}
