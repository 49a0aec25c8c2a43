import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { sql } from 'kysely'
import { packId, shardOf, type Id } from '#kernel/snowflake.ts'
import type { Database, Trx } from '#domain/database.ts'
import { migrations } from '#migrations/migrations.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { createShardMap } from '#platform/postgres/shard-map.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { compareRounds, printRates, timeRate } from './rounds.ts'

/**
 * What the door costs a write: one update of one row in a transaction of its own, by 8 writers at once. Without the door
 * the transaction sets the same three bounds, as it has to in any case. Commits do not wait for the disk, which would
 * hide the cost.
 */
const WRITES = 4_000
const WRITERS = 8
const ACCOUNTS = 64
const ROUNDS = 9

const log = createLogger({ process: 'bench', level: 'warn' })
const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-door')
await removeEmbeddedPostgres(checkout, directory)
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: ['door'], durable: false })
await using closing = new AsyncDisposableStack()
closing.defer(() => rm(directory, { recursive: true, force: true }))
closing.defer(() => removeEmbeddedPostgres(checkout, directory))

const nodes = [{ name: 'door', url: postgres.url('door') }]
const setUp = openPool<Database>({ url: postgres.url('door'), max: 1, applicationName: 'bench set-up' }, log)
await migrateNode(setUp, migrations)
await createShardMap(setUp, ['door'])
const ids = Array.from({ length: ACCOUNTS }, (_, n): Id => packId({ ms: Date.UTC(2026, 5, 1), shard: n * 100, sequence: 0 }))
await setUp
  .insertInto('accounts')
  .values(ids.map((id) => ({ id, status: 'active' as const, username: `a${id}`, display_name: 'a', email: null, feed_floor: id })))
  .execute()
await setUp.destroy()
const router = await openRouter<Database>({ nodes, poolMax: WRITERS, applicationName: 'bench' }, log)
closing.defer(() => router.close())
const { primary } = router.directory

async function change(trx: Trx, id: Id): Promise<void> {
  await sql`update accounts set last_seen_at = now() where id = ${id}`.execute(trx)
}

async function all(write: (id: Id) => Promise<void>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: WRITERS }, async () => {
      while (next < WRITES) await write(ids[next++ % ACCOUNTS] ?? ids[0] ?? (0n as Id))
    }),
  )
}

const BARE = 'the same bounds, no door (ceiling)'
const DOOR = 'through the door'
const rates = await compareRounds({
  [BARE]: () => timeRate(WRITES, () => all((id) => primary.transaction().execute(async (trx) => {
    await sql`select set_config('statement_timeout', '15s', true), set_config('lock_timeout', '10s', true),
      set_config('idle_in_transaction_session_timeout', '20s', true)`.execute(trx)
    await change(trx, id)
  }))),
  [DOOR]: () => timeRate(WRITES, () => all((id) => router.write(shardOf(id), (trx) => change(trx, id)))),
}, { rounds: ROUNDS })
printRates('writes/s', rates)
const [bare, door] = rates.map(({ perSecond }) => 1_000_000 / perSecond)
console.log(`the door adds ${((door ?? 0) - (bare ?? 0)).toFixed(0)} µs to a write, of ${(door ?? 0).toFixed(0)}`)
