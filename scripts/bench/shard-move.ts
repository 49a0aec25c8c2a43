import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { sql } from 'kysely'
import { systemClock } from '#kernel/clock.ts'
import { SHARD_COUNT, type Shard } from '#kernel/snowflake.ts'
import type { Database, Db } from '#domain/database.ts'
import { arriveShard } from '#domain/shards/arrive-shard.ts'
import { estimateMoves } from '#domain/shards/estimate-moves.ts'
import { moveShards } from '#domain/shards/move-shards.ts'
import { SHARDED_TABLES } from '#domain/shards/sharded-tables.ts'
import { migrations } from '#migrations/migrations.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { migrateNode } from '#platform/postgres/migrate.ts'
import { openPool } from '#platform/postgres/pool.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { copyRows } from '#platform/postgres/shard-moves/copy-connection.ts'
import { openEnds } from '#platform/postgres/shard-moves/open-ends.ts'
import { selectRows } from '#platform/postgres/shard-moves/sharded-table.ts'
import { createShardMap } from '#platform/postgres/shard-map.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { compareRounds, printRates } from './rounds.ts'

/**
 * Logical shards of 100,000 rows each move from one node to another of the same server: rows per second from the first
 * copy to the arrival, and for how long the shard's writes wait. The ceiling is COPY of the same rows, in binary from one
 * node to the other, into tables with the same indexes, each table at once and nothing verified.
 *
 * With `big` as its argument: one shard of 3,000,000 rows, via replication.
 */
const isBig = process.argv[2] === 'big'
const NODES = ['shards_a', 'shards_b'] as const
const ROUNDS = isBig ? 0 : 8
/** One to warm up. */
const SHARDS: readonly Shard[] = Array.from({ length: ROUNDS + 1 }, (_, index) => index)
const ACCOUNTS = isBig ? 30_000 : 1_000
/** Of each account, so that 1,000 accounts have 100,000 rows. */
const EACH = { sessions: 2, photos: 10, follows: 80, keys: 5 } as const
const ROWS = ACCOUNTS * (1 + 1 + 1 + EACH.sessions + EACH.photos + EACH.follows + EACH.keys)
const CEILING = 'ceiling'
const CONNECTIONS_MAX = 4
/** So that a pause is measured, however busy the machine is. */
const PAUSE_MS_MAX = 60_000

const log = createLogger({ process: 'bench', level: 'warn' })

/** Ids of a shard, the nth of its kind; kinds are told apart by the sequence. */
const idOf = (shard: string, n: string, kind: number): string => `((${n})::bigint << 23 | ${shard}::bigint << 10 | ${kind})`

async function makeShards(db: Db): Promise<void> {
  const account = idOf('shard', 'n', 0)
  const accounts = `from generate_series(${SHARDS[0] ?? 0}, ${SHARDS.at(-1) ?? 0}) as shard, generate_series(1, ${ACCOUNTS}) as n`
  const times = (count: number): string => `${accounts}, generate_series(1, ${count}) as k`
  for (const text of [
    `insert into accounts (id, status, username, display_name, bio, email, feed_floor)
      select ${account}, 'active', 'name' || ${account}, 'A name', repeat('life ', 20), null, 0 ${accounts}`,
    `insert into credentials (account_id, password_hash) select ${account}, repeat('h', 97) ${accounts}`,
    `insert into counters (subject_id, kind, total) select ${account}, 'photos', 10 ${accounts}`,
    `insert into sessions (account_id, id, secret_hash, user_agent, expires_at)
      select ${account}, ${idOf('shard', 'n * 16 + k', 1)}, sha256(n::text::bytea), repeat('agent', 20), now() + interval '9 days' ${times(EACH.sessions)}`,
    `insert into photos (id, account_id, status, caption, tags, original_key, original_bytes, media_type, published_id, fanned_out_at, renditions)
      select ${idOf('shard', 'n * 16 + k', 2)}, ${account}, 'published', repeat('caption ', 8), array['one', 'two'],
        'originals/' || n, 1000, 'image/jpeg', ${idOf('shard', 'n * 16 + k', 3)}, now(), jsonb_build_array(repeat('rendition', 60)) ${times(EACH.photos)}`,
    `insert into follows (follower_id, followee_id, id, backfilled_at)
      select ${account}, ${idOf('4000 + k', 'n * 7919 % 1000', 0)}, ${idOf('shard', 'n * 128 + k', 4)}, now() ${times(EACH.follows)}`,
    `insert into idempotency_keys (account_id, key, resource_id, locked_until, fingerprint, status, response)
      select ${account}, 'key' || k, n, now(), repeat('f', 64), 202, jsonb_build_object('photo', repeat('x', 300)) ${times(EACH.keys)}`,
  ]) {
    await sql.raw(text).execute(db)
  }
}

const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-shard-move')
await removeEmbeddedPostgres(checkout, directory)
const settings = { wal_level: isBig ? 'logical' : 'replica' }
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: [...NODES], durable: true, settings })
await using closing = new AsyncDisposableStack()
closing.defer(() => rm(directory, { recursive: true, force: true }))
closing.defer(() => removeEmbeddedPostgres(checkout, directory))

console.log(`making ${SHARDS.length} shards of ${ROWS.toLocaleString('en-US')} rows …`)
// A superuser may subscribe.
const nodes = NODES.map((name) => ({ name, url: isBig ? postgres.superuserUrl(name) : postgres.url(name) }))
for (const [index, node] of nodes.entries()) {
  const db = openPool<Database>({ url: node.url, max: 1, applicationName: 'bench set-up', queryTimeoutMs: 600_000 }, log)
  await migrateNode(db, migrations)
  if (index === 0) {
    await createShardMap(db, [NODES[0]])
    await makeShards(db)
  }
  await sql.raw(`create schema ${CEILING}`).execute(db)
  for (const { name } of SHARDED_TABLES.moved) await sql.raw(`create table ${CEILING}.${name} (like public.${name} including all)`).execute(db)
  await sql`vacuum analyze`.execute(db)
  await db.destroy()
}
const onArrival = (trx: Parameters<typeof arriveShard>[0], shard: Shard): Promise<void> => arriveShard(trx, shard, systemClock.nowMs())
const router = await openRouter<Database>({ nodes, poolMax: CONNECTIONS_MAX, applicationName: 'bench', onArrival }, log)
closing.defer(() => router.close())
if (router.nodeOf(SHARD_COUNT - 1).name !== NODES[0]) throw new Error('the shards are not all on the first node')
const via = isBig ? 'replication' : 'copy'
const [estimate] = await estimateMoves(router, [0], undefined, via)
console.log(`one shard: ${estimate?.rows ?? 0} rows, ${((estimate?.bytes ?? 0) / 1e6).toFixed(1)} MB, estimated pause ${estimate?.pauseMs ?? 0} ms`)

const ends = openEnds(nodes, log)
closing.defer(() => ends.discard())
const copied = SHARDS.values()
async function copy(): Promise<number> {
  const shard = copied.next().value ?? 0
  const { source, target } = await ends.connect(...NODES)
  const startMs = performance.now()
  for (const table of SHARDED_TABLES.moved) {
    const columns = await source.query<{ name: string }>(`select attname as name from pg_attribute
      where attrelid = '${table.name}'::regclass and attnum > 0 and not attisdropped`)
    await copyRows(
      { connection: source, query: selectRows(table, shard) },
      { connection: target, table: `${CEILING}.${table.name}`, columns: columns.map(({ name }) => name) },
    )
  }
  return (ROWS / (performance.now() - startMs)) * 1_000
}

const pauses: number[] = []
/** How long each step took, by its name. */
const stepsMs = new Map<string, number[]>()
const moving = SHARDS.values()
async function move(): Promise<number> {
  // Nobody else has a map, so nobody is waited for.
  const context = { router, config: { nodes }, clock: systemClock, log, sleep: () => Promise.resolve() }
  const startMs = performance.now()
  let sinceMs = startMs
  const report = await moveShards(context, { shards: [moving.next().value ?? 0], to: NODES[1], maxPauseMs: PAUSE_MS_MAX, via }, {
    step(step) {
      const nowMs = performance.now()
      stepsMs.set(step, [...(stepsMs.get(step) ?? []), nowMs - sinceMs])
      sinceMs = nowMs
      return Promise.resolve()
    },
  })
  const [moved] = report.moved
  if (moved?.rows !== ROWS) throw new Error(`it did not move: ${JSON.stringify(report)}`)
  pauses.push(moved.pauseMs)
  return (ROWS / (performance.now() - startMs)) * 1_000
}

if (isBig) {
  console.log(`COPY, nothing verified: ${Math.round(await copy())} rows/s`)
  console.log(`move a shard: ${Math.round(await move())} rows/s`)
} else {
  const rates = await compareRounds({ 'COPY, nothing verified (ceiling)': copy, 'move a shard': move }, { rounds: ROUNDS })
  printRates('rows/s', rates)
}
const sorted = pauses.toSorted((a, b) => a - b).map(Math.round)
console.log(`pause of a shard of ${ROWS.toLocaleString('en-US')} rows: p50 ${sorted[sorted.length >> 1] ?? 0} ms, longest of ${sorted.length} ${sorted.at(-1) ?? 0} ms`)
for (const [step, times] of stepsMs) {
  console.log(`  until ${step}: ${Math.round(times.toSorted((a, b) => a - b)[times.length >> 1] ?? 0)} ms`)
}
