import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Redis } from 'ioredis'
import { sql } from 'kysely'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { systemClock } from '#kernel/clock.ts'
import { firstIdAt, packId, SHARD_COUNT, type Id } from '#kernel/snowflake.ts'
import type { AppRouter, Database, Db } from '#domain/database.ts'
import { partitionOf } from '#domain/feed/feed.partitions.ts'
import { photoPublished } from '#domain/photos/photos.events.ts'
import { QUEUES } from '#domain/queues.ts'
import { createLogger } from '#platform/logger/logger.ts'
import { postgresTransport } from '#platform/outbox/postgres-transport.ts'
import { publishEvent } from '#platform/outbox/publish.ts'
import type { Transport } from '#platform/outbox/transport.ts'
import { openRouter } from '#platform/postgres/router.ts'
import { fanOutPhoto } from '../../services/fanout-worker/fan-out-photo.ts'
import { removeEmbeddedPostgres, startEmbeddedPostgres } from '../stack/embedded-postgres.ts'
import { LOOPBACK } from '../stack/free-port.ts'
import { FLAT_TABLE, makeDeepFeeds } from './deep-feeds.ts'
import { startRedis } from './redis.ts'
import { compareRounds, printRates, ratioBetween, timeRate } from './rounds.ts'

/**
 * One photo to 100,000 active followers (25,000 more are dormant) on two nodes, or as many as the argument says, whose
 * feeds are deep, from the commit of photo.published through the
 * queue to the last entry. The ceiling is COPY of the same rows into the same partitions, in binary, from memory, a
 * connection per node. The naive way brings follower ids to Node and inserts a thousand at a time into one table
 * that holds all feeds. Misskey's way is a list in Redis for each follower, pushed to and trimmed, here with the ids at
 * hand already and a thousand followers in a pipeline.
 */
const NODES = Number(process.argv[2] ?? 2)
const FOLLOWERS_PER_NODE = 100_000 / NODES
const DORMANT_PER_NODE = 25_000 / NODES
const REDIS_LIST_MAX = 300
const ENTRIES_PER_MONTH = 25
const ENTRIES_THIS_MONTH = 5
const NAIVE_ROWS = 1_000
const POOL_CONNECTIONS = 10
const DEADLINE_MS = 120_000
const DATABASES = ['fanout_a', 'fanout_b', 'fanout_c', 'fanout_d'].slice(0, NODES)
const ENTRIES = FOLLOWERS_PER_NODE * DATABASES.length

/** A row in COPY's binary format: three fields, each its length and eight bytes. */
const ROW_BYTES = 2 + 3 * (4 + 8)
const COPY_HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
const COPY_TRAILER = Buffer.from([0xff, 0xff])

/** The author has more followers than the usual limit. */
const NOBODY_IS_PULLED = { promoteAt: Infinity, demoteAt: Infinity, pullDelayMs: 0 }

const log = createLogger({ process: 'bench', level: 'warn' })
const nowMs = Date.now()
const authorId = packId({ ms: nowMs, shard: 0, sequence: 0 })
let photos = 0

/** A published_id never used before, in the present month. */
function nextPlace(): Id {
  photos++
  return (firstIdAt(nowMs) + BigInt(photos)) as Id
}

/** Publishes a photo and waits until its fan-out is recorded. */
async function throughTheQueue(router: AppRouter, transport: Transport, done: () => Promise<void>): Promise<void> {
  const place = nextPlace()
  await router.write(0, async (trx) => {
    await trx
      .insertInto('photos')
      .values({
        id: place,
        account_id: authorId,
        status: 'published',
        caption: '',
        tags: [],
        original_key: 'none',
        original_bytes: 0,
        media_type: 'image/jpeg',
        published_id: place,
      })
      .execute()
    await publishEvent(trx, photoPublished, { photoId: place.toString() })
  })
  transport.wake()
  await done()
}

async function activeFollowers(db: Db): Promise<{ follower_id: Id }[]> {
  return db.selectFrom('follows').select('follower_id').where('active', '=', true).orderBy('follower_id').execute()
}

/** All followers of one node as COPY wants them; the same bytes serve every run, but for the place. */
async function copyRows(db: Db): Promise<Buffer> {
  const followers = await activeFollowers(db)
  const rows = Buffer.alloc(followers.length * ROW_BYTES)
  for (const [index, { follower_id }] of followers.entries()) {
    const at = index * ROW_BYTES
    rows.writeInt16BE(3, at)
    for (const field of [0, 1, 2]) rows.writeInt32BE(8, at + 2 + field * 12)
    rows.writeBigInt64BE(follower_id, at + 6)
  }
  return rows
}

async function copyInto(client: pg.Client, rows: Buffer, place: Id): Promise<void> {
  for (let at = 0; at < rows.length; at += ROW_BYTES) {
    rows.writeBigInt64BE(place, at + 18)
    rows.writeBigInt64BE(place, at + 30)
  }
  const stream = client.query(
    copyFrom(`copy ${partitionOf(place).name} (account_id, published_id, photo_id) from stdin (format binary)`),
  )
  stream.write(COPY_HEADER)
  stream.write(rows)
  stream.end(COPY_TRAILER)
  await once(stream, 'finish')
}

async function naive(db: Db, place: Id): Promise<void> {
  let last = 0n as Id
  for (;;) {
    const page = await db
      .selectFrom('follows')
      .select('follower_id')
      .where('followee_id', '=', authorId)
      .where('active', '=', true)
      .where('follower_id', '>', last)
      .orderBy('follower_id')
      .limit(NAIVE_ROWS)
      .execute()
    const ids = page.map((row) => row.follower_id)
    if (ids.length === 0) return
    await sql`insert into ${sql.table(FLAT_TABLE)} select id, ${place}::bigint, ${place}::bigint
      from unnest(${ids}::bigint[]) as id on conflict do nothing`.execute(db)
    last = ids.at(-1) ?? last
  }
}

/** Bytes of write-ahead log per entry that `work` writes straight after a checkpoint. */
async function walBytes(superuser: pg.Client, work: () => Promise<unknown>): Promise<number> {
  await superuser.query('checkpoint')
  const before = await superuser.query<{ lsn: string }>('select pg_current_wal_insert_lsn() as lsn')
  await work()
  const { rows } = await superuser.query<{ bytes: string }>(
    'select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1) as bytes',
    [before.rows[0]?.lsn],
  )
  return Number(rows[0]?.bytes) / ENTRIES
}

const checkout = resolve(import.meta.dirname, '../..')
const directory = join(checkout, '.monogram', 'bench-fan-out')
await removeEmbeddedPostgres(checkout, directory)
const postgres = await startEmbeddedPostgres({ checkout, directory, databases: DATABASES, durable: true })
await using closing = new AsyncDisposableStack()
closing.defer(() => rm(directory, { recursive: true, force: true }))
closing.defer(() => removeEmbeddedPostgres(checkout, directory))

console.log(`making ${ENTRIES.toLocaleString('en-US')} deep feeds on ${DATABASES.length} nodes …`)
const nodes = DATABASES.map((name) => ({ name, url: postgres.url(name) }))
const depth = { entriesPerMonth: ENTRIES_PER_MONTH, entriesThisMonth: ENTRIES_THIS_MONTH }
await makeDeepFeeds({ nodes, authorId, followersPerNode: FOLLOWERS_PER_NODE, dormantPerNode: DORMANT_PER_NODE, nowMs, ...depth }, log)

const router = await openRouter<Database>({ nodes, poolMax: POOL_CONNECTIONS, applicationName: 'bench' }, log)
closing.defer(() => router.close())
if (new Set(Array.from({ length: SHARD_COUNT }, (_, shard) => router.nodeOf(shard))).size !== NODES) throw new Error('the shards are not on all nodes')
const transport = postgresTransport({ nodes: router.nodes, log })
closing.defer(() => transport.close())
const handler = fanOutPhoto({ router, clock: systemClock, config: { fanOut: NOBODY_IS_PULLED } })
let handled = Promise.withResolvers<undefined>()
transport.consume({
  queue: QUEUES.fanout,
  handlers: [
    {
      event: photoPublished,
      handle: (body: { photoId: string }, job) => handler.handle(body, job).then(() => handled.resolve(undefined), handled.reject),
    },
  ],
  concurrency: 1,
  deadlineMs: DEADLINE_MS,
})
const ours = (): Promise<void> => {
  handled = Promise.withResolvers()
  return throughTheQueue(router, transport, () => handled.promise.then(() => undefined))
}

const clients: { client: pg.Client; rows: Buffer }[] = []
for (const node of router.nodes) {
  const client = new pg.Client({ connectionString: nodes.find(({ name }) => name === node.name)?.url })
  await client.connect()
  closing.defer(() => client.end())
  clients.push({ client, rows: await copyRows(node.primary) })
}
const copy = async (): Promise<void> => {
  const place = nextPlace()
  await Promise.all(clients.map(({ client, rows }) => copyInto(client, rows, place)))
}
const oneByThousand = async (): Promise<void> => {
  const place = nextPlace()
  await Promise.all(router.nodes.map((node) => naive(node.primary, place)))
}

const redisServer = await startRedis(directory)
closing.defer(() => redisServer.stop())
const redis = new Redis({ host: LOOPBACK, port: redisServer.port })
closing.defer(() => { redis.disconnect() })
const lists = (await Promise.all(router.nodes.map((node) => activeFollowers(node.primary)))).flat()
const misskeysWay = async (): Promise<void> => {
  const place = nextPlace().toString()
  for (let from = 0; from < lists.length; from += NAIVE_ROWS) {
    const pipeline = redis.pipeline()
    for (const { follower_id } of lists.slice(from, from + NAIVE_ROWS)) {
      pipeline.lpush(`list:homeTimeline:${follower_id}`, place).ltrim(`list:homeTimeline:${follower_id}`, 0, REDIS_LIST_MAX)
    }
    await pipeline.exec()
  }
}

const superuserUrl = new URL(postgres.url('postgres'))
superuserUrl.username = 'postgres'
const superuser = new pg.Client({ connectionString: superuserUrl.href })
await superuser.connect()
closing.defer(() => superuser.end())
// Before the rounds, which fill the present month's partition as a whole month would.
for (const [name, work] of [['fan-out worker', ours], ['one big table', oneByThousand], ['COPY', copy]] as const) {
  console.log(`WAL per entry after a checkpoint, ${name}: ${Math.round(await walBytes(superuser, work))} B`)
}

const OURS = 'fan-out worker, through the queue'
const NAIVE = 'unnest 1,000 into one big table (naive)'
const PEER = 'Redis lists, LPUSH and LTRIM pipelined (Misskey)'
const rates = await compareRounds({
  'COPY into the same partitions (ceiling)': () => timeRate(ENTRIES, copy),
  [OURS]: () => timeRate(ENTRIES, ours),
  [NAIVE]: () => timeRate(ENTRIES, oneByThousand),
  [PEER]: () => timeRate(ENTRIES, misskeysWay),
})
printRates(`entries/s, ${NODES} node(s)`, rates)
console.log(`fan-out worker to Redis: ${ratioBetween(rates, OURS, PEER).toFixed(1)} ×`)
console.log(`fan-out worker to the naive way: ${ratioBetween(rates, OURS, NAIVE).toFixed(1)} ×`)
